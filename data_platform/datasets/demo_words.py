"""The words of the demo shop: invented brands, things to sell, names of people. Data only."""

# Category, subcategory, its things, and the range of prices in the shop's currency.
ASSORTMENT: tuple[tuple[str, str, tuple[str, ...], tuple[int, int]], ...] = (
    ("Kitchen", "Cookware", ("Saucepan", "Frying Pan", "Casserole", "Wok", "Roasting Tin", "Stockpot"), (18, 140)),
    ("Kitchen", "Tableware", ("Dinner Plate", "Soup Bowl", "Mug", "Water Glass", "Serving Dish", "Carafe"), (4, 40)),
    ("Kitchen", "Tools", ("Bread Knife", "Peeler", "Whisk", "Grater", "Cutting Board", "Rolling Pin"), (5, 60)),
    ("Living", "Textiles", ("Cushion", "Throw", "Curtain", "Rug", "Table Runner", "Blanket"), (12, 180)),
    ("Living", "Lighting", ("Table Lamp", "Floor Lamp", "Pendant", "Lantern", "Fairy Lights"), (15, 220)),
    ("Living", "Decoration", ("Vase", "Picture Frame", "Mirror", "Wall Clock", "Candle", "Bookend"), (6, 95)),
    ("Garden", "Planting", ("Flower Pot", "Planter", "Watering Can", "Seed Tray", "Trellis"), (4, 75)),
    ("Garden", "Outdoor", ("Garden Chair", "Parasol", "Fire Bowl", "Hammock", "Picnic Basket"), (25, 320)),
    ("Office", "Paper", ("Notebook", "Planner", "Sketchbook", "Postcard Set", "Gift Wrap"), (3, 28)),
    ("Office", "Desk", ("Pen Holder", "Desk Organiser", "Letter Tray", "Desk Mat", "Paperweight"), (7, 70)),
    ("Bath", "Towels", ("Hand Towel", "Bath Towel", "Bath Mat", "Bathrobe"), (8, 85)),
    ("Bath", "Care", ("Hand Soap", "Bath Salts", "Body Lotion", "Soap Dish", "Hair Brush"), (4, 32)),
    ("Children", "Toys", ("Wooden Train", "Puzzle", "Building Blocks", "Kite", "Soft Bear", "Marble Run"), (8, 90)),
    ("Children", "Room", ("Night Light", "Toy Chest", "Growth Chart", "Bunting", "Play Tent"), (12, 130)),
)
MATERIALS = (
    "Oak", "Ash", "Linen", "Cotton", "Stoneware", "Glass", "Copper", "Brass", "Wool", "Bamboo", "Enamel", "Cork",
)  # fmt: skip
COLOURS = (
    "White", "Sand", "Slate", "Sage", "Navy", "Terracotta", "Mustard", "Rose", "Charcoal", "Sky", "Forest", "Plum",
)  # fmt: skip
BRANDS = (
    "Alderby", "Brightwell", "Corvane", "Dunmere", "Elmstead", "Fernhollow", "Greyloft", "Hearthline", "Ivoryn",
    "Juniper & Co", "Kestrelle", "Larkfield", "Mossvale", "Northbrae", "Oakenrow", "Pinecrest Lane",
)  # fmt: skip
FIRST_NAMES = (
    "Ada", "Amir", "Anna", "Ben", "Carla", "Chen", "Clara", "Daniel", "Diego", "Elena", "Emma", "Eva", "Farah", "Felix",
    "Finn", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jana", "Jonas", "Julia", "Karim", "Lea", "Leo", "Lina", "Louis",
    "Maja", "Marco", "Maria", "Max", "Mei", "Mila", "Nadia", "Nils", "Noah", "Nora", "Olga", "Omar", "Paul", "Petra",
    "Priya", "Rafael", "Rosa", "Sami", "Sara", "Sofia", "Tom", "Vera", "Yusuf", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Adams", "Ahmed", "Almeida", "Andersen", "Bauer", "Bennett", "Bianchi", "Brown", "Carter", "Chen", "Costa",
    "Dubois",
    "Evans", "Fischer", "Garcia", "Hansen", "Hoffmann", "Ivanova", "Jansen", "Jensen", "Keller", "Khan", "Kowalska",
    "Larsen", "Laurent", "Lopez", "Martin", "Meyer", "Moreau", "Moretti", "Nowak", "Novak", "Okafor", "Olsen", "Patel",
    "Pereira", "Petersen", "Ricci", "Rossi", "Santos", "Schmidt", "Silva", "Singh", "Smith", "Svensson", "Taylor",
    "Visser", "Walker", "Weber", "Wilson", "Wright", "Zhang",
)  # fmt: skip
# Names and their share among customers.
SEGMENTS = {"consumer": 0.72, "small business": 0.2, "corporate": 0.08}
COUNTRIES = {
    "Germany": 0.24,
    "United Kingdom": 0.18,
    "France": 0.14,
    "Netherlands": 0.1,
    "Spain": 0.08,
    "Italy": 0.08,
    "Austria": 0.06,
    "Denmark": 0.04,
    "Sweden": 0.04,
    "Ireland": 0.04,
}
