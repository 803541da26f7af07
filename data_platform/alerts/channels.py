"""How a message leaves: by SMTP, to Slack's webhooks, to any receiver of JSON.

What goes wrong is told in a sentence that holds nothing which the environment holds: a webhook's URL is a secret, too.
"""

import logging
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage

import requests

from data_platform.alerts.config import Channel, Email, Slack, Webhook
from data_platform.alerts.messages import Message
from data_platform.errors import PlatformError

log = logging.getLogger(__name__)

TIMEOUT = 10.0
# Slack cuts what is longer; its markup must not be cut in half.
SLACK_CHARACTERS = 3000


class NotSent(PlatformError):
    """A message could not be sent; the text says why and what to mend, in one sentence."""

    transient = True


def send(name: str, channel: Channel, message: Message, environ: Mapping[str, str]) -> None:
    """Send `message` by the channel called `name`; secrets are taken from `environ`. Raises NotSent."""
    place, way = f"alerts.yaml: channels.{name}", channel.way
    if isinstance(way, Email):
        _mail(way, message, environ, f"{place}.email")
    elif isinstance(way, Slack):
        url = _secret(environ, way.url, f"{place}.slack.url")
        _post(url, {"text": _slack_text(message)}, {}, f"{place}.slack")
    else:
        _post_json(way, message, environ, f"{place}.webhook")


def _post_json(way: Webhook, message: Message, environ: Mapping[str, str], place: str) -> None:
    headers = {
        header: _secret(environ, variable, f"{place}.headers.{header}") for header, variable in way.headers.items()
    }
    body = {"subject": message.subject, "text": message.body, **message.data}
    _post(_secret(environ, way.url, f"{place}.url"), body, headers, place)


def _post(url: str, body: Mapping[str, object], headers: Mapping[str, str], place: str) -> None:
    try:
        # Another address that the receiver names must not be sent the secret headers.
        answer = requests.post(url, json=body, headers=headers, timeout=TIMEOUT, allow_redirects=False)
    except requests.Timeout:
        raise NotSent(f"{place} does not answer within {TIMEOUT:.0f} seconds: see that the receiver runs.") from None
    except requests.exceptions.SSLError:
        raise NotSent(f"{place} has a certificate that is not trusted here: mend it, or its host's name.") from None
    except requests.ConnectionError:
        raise NotSent(f"{place} cannot be reached: see that the receiver runs, and that its URL is right.") from None
    except (requests.RequestException, ValueError):
        raise NotSent(f"{place} has a URL or a header that cannot be used: mend the variables that it names.") from None
    if not answer.ok or answer.is_redirect:
        raise NotSent(f"{place} answers HTTP {answer.status_code}: see that its URL and headers are right.")


def _slack_text(message: Message) -> str:
    def escaped(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    link = f"\n<{message.link}|Open in Dagster>" if message.link else ""
    return f"*{escaped(message.subject)}*\n{escaped(message.body[:SLACK_CHARACTERS])}{link}"


def _mail(way: Email, message: Message, environ: Mapping[str, str], place: str) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = message.subject, way.sender, ", ".join(way.to)
    mail["Auto-Submitted"] = "auto-generated"  # so that nobody's absence is answered
    mail.set_content(f"{message.body}\n\n{message.link}\n")
    user, password = (
        _secret(environ, variable, f"{place}.{key}") if variable else ""
        for key, variable in (("user", way.user), ("password", way.password))
    )
    try:
        with _connected(way) as smtp:
            if user:
                smtp.login(user, password)
            refused = smtp.send_message(mail)
    except smtplib.SMTPAuthenticationError:
        raise NotSent(f"{place}: {way.host} refuses the user or the password: mend those variables.") from None
    except smtplib.SMTPNotSupportedError:
        raise NotSent(f"{place}: {way.host} does not offer that: mend `security` or the login.") from None
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused):
        raise NotSent(f"{place}: {way.host} refuses the sender or who it is for: mend `sender` or `to`.") from None
    except smtplib.SMTPResponseException as error:
        raise NotSent(f"{place}: {way.host} refuses the mail (SMTP {error.smtp_code}): ask who runs it.") from None
    except ssl.SSLError:
        raise NotSent(
            f"{place}: {way.host} speaks no TLS on port {way.port}, or has a certificate that is not trusted here: "
            "mend `host`, `port` or `security`."
        ) from None
    except (OSError, smtplib.SMTPException, UnicodeError) as error:
        raise NotSent(
            f"{place}: {way.host}:{way.port} cannot be used ({type(error).__name__}): mend `host` or `port`."
        ) from None
    if refused:
        # Not an error: to send it again would send it twice to all others.
        log.warning("%s: %s refuses %d of those it is for: mend `to`.", place, way.host, len(refused))


def _connected(way: Email) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if way.security == "ssl":
        return smtplib.SMTP_SSL(way.host, way.port, timeout=TIMEOUT, context=context)
    smtp = smtplib.SMTP(way.host, way.port, timeout=TIMEOUT)
    if way.security == "starttls":
        try:
            smtp.starttls(context=context)
        except BaseException:
            smtp.close()
            raise
    return smtp


def _secret(environ: Mapping[str, str], variable: str, place: str) -> str:
    value = environ.get(variable, "")
    if not value:
        raise NotSent(f"{place} names the environment variable {variable}, which is not set: set it.")
    return value
