"""Is there anything that an advertiser would not want to stand beside, and how grave is it?

The labels follow the sensitive topics and the risk levels of the industry's brand-safety floor and suitability
framework (IAB Content Taxonomy 3.1, "Sensitive Topics").
"""

from signals.tasks import Task

# Topics of texts that hold no threat but where a label of its own says so: sports, technology, food, travel, hobbies,
# style, cars, healthy living, money, pets. They teach what long harmless pages are made of.
HARMLESS_TOPICS = ("483", "596", "210", "653", "239", "552", "1", "223", "391", "422")

TASK = Task(
    name="threat",
    labels=(
        "none",
        "adult",
        "arms",
        "crime",
        "death_injury",
        "hate",
        "obscenity",
        "drugs",
        "spam_malware",
        "terrorism",
        "sensitive_social",
        "piracy",
    ),
    documents=("page", "message"),
    metric="macro_f1",
    floor=0.30,
    retrain_after=200,
    groups={"neutral": "none", "attack": "hate"},
    precision=0.93,
    names={
        "none": "None",
        "adult": "Adult and explicit content",
        "arms": "Arms and ammunition",
        "crime": "Crime and harmful acts",
        "death_injury": "Death and injury",
        "hate": "Hate speech",
        "obscenity": "Obscenity and profanity",
        "drugs": "Drugs, tobacco and alcohol",
        "spam_malware": "Spam and malware",
        "terrorism": "Terrorism",
        "sensitive_social": "Debated sensitive social issues",
        "piracy": "Online piracy",
    },
    seeds={
        "none": (
            "Our guide to a quiet weekend with good food and a walk in the hills.",
            "The team signed a new sponsor and opened its season with a friendly match.",
            "Five ways to keep your kitchen tidy and your houseplants happy.",
            "Quarterly results beat expectations as the company opened two more shops.",
            "Had a lovely lunch with friends today, the soup was great.",
            "The new phone has a brighter screen and a battery that lasts two days.",
        ),
        "adult": (
            "Adults only: explicit sexual content, nudity and pornography.",
            "Hot singles want to meet you tonight for casual sex.",
        ),
        "arms": (
            "Rifles, pistols and ammunition for sale, with holsters and scopes.",
            "He showed off his new gun and the bullets he bought for it.",
        ),
        "crime": (
            "Police arrested a man suspected of robbery, fraud and assault.",
            "Burglars broke into the shop and stole the cash; a suspect is in court.",
        ),
        "death_injury": (
            "Three people were killed and many injured in the crash.",
            "The family mourns after the fatal accident; victims are being treated in hospital.",
        ),
        "hate": (
            "Those people are vermin and should be thrown out of our country.",
            "They are all inferior and nobody should live next to their kind.",
        ),
        "obscenity": (
            "What the f*** is this sh*t, you stupid piece of crap.",
            "Bloody hell, this f***ing garbage is such bullsh*t.",
        ),
        "drugs": (
            "Getting high on weed and pills; cocaine and vapes for sale.",
            "He got drunk, smoked all night and talked about heroin addiction.",
        ),
        "spam_malware": (
            "Congratulations, you won a prize! Click this link and enter your bank details now.",
            "Download the free crack and key generator; your computer is infected, call this number.",
        ),
        "terrorism": (
            "A bomb attack claimed by an extremist group; the militants threatened more attacks.",
            "The terrorist cell recruited followers and planned a suicide bombing.",
        ),
        "sensitive_social": (
            "The debate over abortion, immigration and gun laws divides voters.",
            "Opinions on euthanasia, gay marriage, suicide and self-harm awareness clash again.",
        ),
        "piracy": (
            "Torrents and magnet links for new films and series: full season, 1080p rip, no subscription.",
            "Watch every match free on these unofficial streams and mirror sites, before they are blocked.",
            "Cracked games and software with keygen, serial numbers and activation patches.",
            "Pirate site shut down for sharing copyrighted films, albums and e-books without a licence.",
        ),
    },
    auxiliary={"iab_category": dict.fromkeys(HARMLESS_TOPICS, "none")},
    auxiliary_weight=1.0,
    nothing="none",
    explained=True,
    risk={
        "none": "none",
        "adult": "floor",
        "arms": "high",
        "crime": "high",
        "death_injury": "medium",
        "hate": "floor",
        "obscenity": "medium",
        "drugs": "high",
        "spam_malware": "floor",
        "terrorism": "floor",
        "sensitive_social": "medium",
        "piracy": "floor",
    },
)
