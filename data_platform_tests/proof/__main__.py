"""`make proof`: a thousand random streams, then every fault at every point of every asset; minutes, not seconds.

make proof                                            all of it, by a new seed
make proof ARGS='--seed 7 --streams 5000'             other streams, more of them
make proof ARGS='--streams-seed 123'                  the batch of streams that a failure named
make proof ARGS='--fault sigkill:facts:12 --seed 7'   the fault that a failure named
make proof ARGS='--only mutations'                    break the engine on purpose: which test notices?
"""

import argparse
import os
import sys
from collections.abc import Sequence

from data_platform_tests.proof import faults, mutations, streams

PARTS = ("streams", "faults", "mutations")


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; 1 where a law did not hold, or a case of the list was met too seldom to prove much."""
    parser = argparse.ArgumentParser(
        prog="make proof", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="of all that is random; a new one where it is not given")
    parser.add_argument("--streams", type=int, help="how many random streams (default: 1000)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--only", choices=PARTS, help="only this part; mutations run only where asked for")
    parser.add_argument("--streams-seed", type=int, metavar="SEED", help="replay one batch of streams")
    parser.add_argument("--fault", metavar="KIND:ASSET:POINT", help="replay one fault")
    given = parser.parse_args(arguments)
    if given.streams_seed is not None:
        return int(bool(streams.replay(given.streams_seed, given.streams or streams.BATCH).failure))
    seed = int.from_bytes(os.urandom(4)) if given.seed is None else given.seed
    if given.fault:
        kind, asset, point = given.fault.split(":")
        return 0 if faults.run_one(kind, asset, int(point), seed).converged else 1
    if given.only == "mutations":
        return mutations.main([])
    print(f"Seed {seed}. The same again: make proof ARGS='--seed {seed}'", flush=True)
    failed = False
    if given.only != "faults":
        proved = streams.run(given.streams or 1000, seed, given.workers)
        failed = bool(proved.failure or proved.seldom or proved.seldom_taken)
    if given.only != "streams":
        failed |= bool(faults.run(seed, given.workers).failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
