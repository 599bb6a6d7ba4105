"""How signs, units, currencies, letters and endings are called."""

from __future__ import annotations

from photophone.text.forms.rules import word_set

TOP_LEVEL = {"com": "com", "org": "org", "net": "net", "gov": "gov", "info": "info", "biz": "biz", "co": "co",
             "me": "me", "app": "app", "dev": "dev", "blog": "blog", "shop": "shop", "xyz": "X.Y.Z", "mil": "mil",
             "edu": "E.D.U", "us": "U.S", "online": "online", "site": "site", "store": "store", "tech": "tech",
             **{name: ".".join(name.upper()) for name in ("io", "ai", "uk", "de", "fr", "eu", "ca", "au", "tv", "jp",
                                                          "ch", "nl", "nz", "cn", "ru", "br", "se", "fm", "gg", "ly")}}
"""Endings of names in the web."""

EXTENSIONS = {**{name: ".".join(name.upper()) for name in (
                "pdf", "md", "js", "ts", "csv", "xml", "html", "htm", "css", "png", "svg", "exe", "dll", "rs", "ppt",
                "xls", "sql", "cpp", "sh", "gz", "tsv", "rtf", "epub", "ogg", "mkv", "avi", "mov", "iso", "tsx", "jsx",
                "rb", "php", "hpp", "webm", "tgz", "odt")},
              "py": "pie", "txt": "text", "zip": "zip", "doc": "dock", "docx": "dock X", "jpg": "jay peg",
              "jpeg": "jay peg", "json": "jason", "mp3": "M.P three", "mp4": "M.P four", "m4a": "M four A",
              "pptx": "P.P.T X", "xlsx": "X.L.S X", "wav": "wave", "gif": "gif", "yaml": "yammel",
              "yml": "yammel", "toml": "tommel", "log": "log", "bat": "bat", "tar": "tar", "java": "java",
              "ini": "ini", "conf": "conf", "cfg": "config", "bin": "bin", "tiff": "tiff", "bmp": "B.M.P",
              "flac": "flack", "safetensors": "safe tensors", "onnx": "onyx", "ipynb": "I.P.Y.N.B"}
"""Endings of file names."""

_DOLLAR = ("cent", "cents")
CURRENCIES = {
    "$": ("dollar", "dollars", *_DOLLAR), "US$": ("U.S dollar", "U.S dollars", *_DOLLAR),
    "USD": ("U.S dollar", "U.S dollars", *_DOLLAR), "A$": ("Australian dollar", "Australian dollars", *_DOLLAR),
    "AU$": ("Australian dollar", "Australian dollars", *_DOLLAR),
    "AUD": ("Australian dollar", "Australian dollars", *_DOLLAR),
    "C$": ("Canadian dollar", "Canadian dollars", *_DOLLAR), "CA$": ("Canadian dollar", "Canadian dollars", *_DOLLAR),
    "CAD": ("Canadian dollar", "Canadian dollars", *_DOLLAR), "NZ$": ("New Zealand dollar", "New Zealand dollars",
                                                                      *_DOLLAR),
    "NZD": ("New Zealand dollar", "New Zealand dollars", *_DOLLAR),
    "HK$": ("Hong Kong dollar", "Hong Kong dollars", *_DOLLAR),
    "S$": ("Singapore dollar", "Singapore dollars", *_DOLLAR), "MX$": ("Mexican peso", "Mexican pesos", "", ""),
    "£": ("pound", "pounds", "penny", "pence"), "GBP": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "EUR": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""), "JPY": ("yen", "yen", "", ""), "CNY": ("yuan", "yuan", "", ""),
    "RMB": ("yuan", "yuan", "", ""),
    "₹": ("rupee", "rupees", "", ""), "INR": ("rupee", "rupees", "", ""), "Rs.": ("rupee", "rupees", "", ""),
    "Rs": ("rupee", "rupees", "", ""),
    "₩": ("won", "won", "", ""), "KRW": ("won", "won", "", ""), "₽": ("rouble", "roubles", "", ""),
    "RUB": ("rouble", "roubles", "", ""), "₿": ("bitcoin", "bitcoins", "", ""), "BTC": ("bitcoin", "bitcoins", "", ""),
    "₺": ("lira", "lira", "", ""), "₪": ("shekel", "shekels", "", ""),
    "ILS": ("shekel", "shekels", "", ""), "CHF": ("Swiss franc", "Swiss francs", "", ""),
    "R$": ("reai", "reais", "", ""), "BRL": ("reai", "reais", "", ""),
    "kr": ("krona", "kronor", "", ""), "SEK": ("Swedish krona", "Swedish kronor", "", ""),
    "NOK": ("Norwegian krone", "Norwegian kroner", "", ""), "DKK": ("Danish krone", "Danish kroner", "", ""),
    "zł": ("zloty", "zlotys", "", ""), "PLN": ("zloty", "zlotys", "", ""), "₴": ("hryvnia", "hryvnias", "", ""),
    "₫": ("dong", "dong", "", ""), "₱": ("peso", "pesos", "", ""), "MXN": ("Mexican peso", "Mexican pesos", "", ""),
    "₦": ("naira", "naira", "", ""), "฿": ("baht", "baht", "", ""), "THB": ("baht", "baht", "", ""),
    "₡": ("colon", "colones", "", ""), "₵": ("cedi", "cedis", "", ""), "₸": ("tenge", "tenge", "", ""),
    "ZAR": ("rand", "rand", "", ""), "SGD": ("Singapore dollar", "Singapore dollars", *_DOLLAR),
    "HKD": ("Hong Kong dollar", "Hong Kong dollars", *_DOLLAR), "ETH": ("ether", "ether", "", ""),
}
"""One, many, hundredth, hundredths; the last two empty where they are not said."""
MAGNITUDES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "mm": "million",
              "mil": "million", "b": "billion", "B": "billion", "bn": "billion", "T": "trillion", "tn": "trillion",
              "tr": "trillion"}

MONTHS = {"Jan": "January", "Feb": "February", "Mar": "March", "Apr": "April", "May": "May", "Jun": "June",
          "Jul": "July", "Aug": "August", "Sep": "September", "Sept": "September", "Oct": "October",
          "Nov": "November", "Dec": "December"}
DAYS = {"Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
        "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday"}

SYMBOLS = {
    "≤": "is at most", "≥": "is at least", "≠": "is not equal to", "≈": "is about", "≅": "is about", "≃": "is about",
    "∞": "infinity", "≡": "is identical to", "∝": "is proportional to", "≪": "is much less than",
    "≫": "is much greater than", "√": "the square root of", "∛": "the cube root of", "∑": "the sum of",
    "∏": "the product of", "∫": "the integral of", "∈": "in", "∉": "not in", "∪": "union", "∩": "intersection",
    "⊂": "is a subset of", "⊆": "is a subset of", "∅": "the empty set", "∀": "for all", "∃": "there is",
    "∧": "and", "∨": "or", "¬": "not", "∇": "nabla", "∴": "therefore", "∵": "because", "⊥": "is perpendicular to",
    "∥": "is parallel to", "∠": "angle", "→": "to", "⇒": "implies", "⇔": "is equivalent to", "->": "to",
    "=>": "implies", "<=": "is at most", ">=": "is at least", "!=": "is not equal to", "==": "equals",
    ":=": "equals", "<-": "from", "‰": "per mille", "‱": "per ten thousand", "∂": "partial", "∆": "delta",
    "←": "from", "↔": "and", "↑": "up", "↓": "down", "=": "equals", "©": "copyright", "®": "registered",
    "™": "trademark", "℠": "service mark", "℗": "copyright", "℅": "care of", "★": "star", "☆": "star", "×": "times",
    "÷": "divided by", "±": "plus or minus", "∓": "minus or plus", "†": "dagger", "‡": "double dagger",
    "§": "section", "¶": "paragraph", "♯": "sharp", "♭": "flat", "♮": "natural", "^": "to the power of",
    "⊕": "circled plus", "⊗": "circled times", "∘": "of", "∖": "minus", "¤": "currency", "º": "th", "ª": "th",
}
"""Signs between or before words."""

_LETTERS = ("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mew new ksigh omicron pie row sigma tau "
            "upsilon fie kai psi omega")
GREEK = dict(zip("αβγδεζηθικλμνξοπρστυφχψω", _LETTERS.split()))
GREEK.update({"ς": "sigma", "ϕ": "fie", "ϵ": "epsilon", "ϑ": "theta", "ϖ": "pie"})
GREEK.update({letter.upper(): name for letter, name in list(GREEK.items()) if len(letter.upper()) == 1})
"""Greek letters, spelled so that the reader says their English names."""

UNITS = {
    "L": "liter", "l": "liter", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute",
    "sec": "second", "secs": "second", "yr": "year", "yrs": "year", "mo": "month", "mos": "month", "wk": "week",
    "wks": "week", "d": "day", "ha": "hectare", "bpm": "beat per minute", "rpm": "revolution per minute",
    "ppm": "part per million", "ppb": "part per billion", "fps": "frame per second", "dpi": "dot per inch",
    "ppi": "pixel per inch", "kph": "kilometer per hour", "kmh": "kilometer per hour", "mph": "mile per hour",
    "mpg": "mile per gallon", "knots": "knot", "kn": "knot", "kt": "knot", "psi": "P.S.I",
    "mmHg": "millimeter of mercury",
    "ft": "foot", "yd": "yard", "yds": "yard", "mi": "mile", "nmi": "nautical mile", "lb": "pound", "lbs": "pound",
    "oz": "ounce", "fl oz": "fluid ounce", "fl. oz": "fluid ounce", "tbsp": "tablespoon", "tbs": "tablespoon",
    "Tbsp": "tablespoon", "tsp": "teaspoon", "gal": "gallon", "qt": "quart", "pt": "pint", "pts": "point",
    "st": "stone", "ac": "acre", "sq ft": "square foot", "sq. ft": "square foot", "sq mi": "square mile",
    "sq m": "square meter", "sq km": "square kilometer", "sq yd": "square yard", "sq in": "square inch",
    "cu ft": "cubic foot", "cu m": "cubic meter", "cu in": "cubic inch", "cc": "cubic centimeter",
    "mcg": "microgram", "kcal": "kilocalorie", "cal": "calorie", "Cal": "calorie", "BTU": "B.T.U", "hp": "horsepower",
    "kbps": "kilobit per second", "kbit/s": "kilobit per second", "Mbps": "megabit per second",
    "Mbit/s": "megabit per second", "Gbps": "gigabit per second", "Tbps": "terabit per second", "px": "pixel",
    "MP": "megapixel", "Mpx": "megapixel", "kWh": "kilowatt hour", "Wh": "watt hour", "MWh": "megawatt hour",
    "GWh": "gigawatt hour", "TWh": "terawatt hour", "mAh": "milliamp hour", "Ah": "amp hour", "N·m": "newton meter",
    "Nm": "newton meter", "N⋅m": "newton meter", "dB": "decibel", "dBA": "decibel", "dBm": "D.B.M", "atm": "atmosphere",
    "AU": "astronomical unit", "ly": "light year", "pc": "parsec", "kpc": "kiloparsec", "Mpc": "megaparsec",
    "rad": "radian", "mol": "mole", "mmol": "millimole", "μmol": "micromole", "IU": "international unit",
    "in³": "cubic inch", "in²": "square inch", "ct": "carat", "kat": "katal", "pct": "percent",
    "kB": "kilobyte", "KB": "kilobyte", "Kb": "kilobit", "kb": "kilobit", "KiB": "kibibyte", "MiB": "mebibyte",
    "GiB": "gibibyte", "TiB": "tebibyte", "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree",
    "ºC": "degree Celsius", "ºF": "degree Fahrenheit", "MΩ": "megohm", "kΩ": "kilohm", "deg": "degree",
    "microns": "micron", "dozen": "dozen", "bbl": "barrel", "tonnes": "tonne", "lm": "lumen", "lx": "lux",
    "cd": "candela", "kcd": "kilocandela", "Bq": "becquerel", "kBq": "kilobecquerel", "MBq": "megabecquerel",
    "Gy": "gray", "mGy": "milligray", "Sv": "sievert", "mSv": "millisievert", "μSv": "microsievert",
    "bar": "bar", "mbar": "millibar", "ton": "ton", "Å": "angstrom",
}
"""Units that are not a prefix and a base."""
BASES = {"m": "meter", "g": "gram", "L": "liter", "l": "liter", "s": "second", "V": "volt", "W": "watt", "A": "amp",
         "Hz": "hertz", "J": "joule", "N": "newton", "Pa": "pascal", "Ω": "ohm", "B": "byte", "b": "bit", "bit": "bit",
         "eV": "electronvolt", "F": "farad", "H": "henry", "C": "coulomb", "T": "tesla", "Wb": "weber",
         "mol": "mole", "M": "molar", "cal": "calorie", "t": "tonne", "VA": "volt amp", "S": "siemens"}
PREFIXES = {"p": "pico", "n": "nano", "μ": "micro", "u": "micro", "m": "milli", "c": "centi", "d": "deci", "h": "hecto",
            "k": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta", "f": "femto"}
ALONE = word_set("m g L l s V W J N Ω Hz Pa eV Wb")
"""Bases that stand behind a number without a prefix; the others are more often something else."""
TAKES = {
    "f": "m s", "p": "g s F A mol M", "n": "m g s F A V W C T mol M H J L l", "u": "m g s F A V L l mol",
    "μ": "m g s L l F A V W C T mol M H J S N eV", "m": "m g s L l F A V W C T mol M H J S N eV Ω cal Pa Hz Wb",
    "c": "m g L l", "d": "m g L l", "h": "m g L l Pa", "k": "m g V W A Hz J N Pa Ω B b bit eV cal mol VA",
    "M": "V W Hz J N Pa Ω B b bit eV t VA", "G": "V W Hz J N Pa Ω B b bit eV t", "T": "W Hz J Ω B b eV", "P": "B W J",
}
"""Bases that a prefix stands before; with others it is more often a word or a name."""
PLURALS = {"foot": "feet", "inch": "inches", "henry": "henries", **{name: name for name in (
    "hertz", "kelvin", "lux", "siemens", "horsepower", "P.S.I", "percent", "molar", "D.B.M", "dozen", "B.T.U")}}
"""Many of a unit, where it is not an s behind its first word."""

RULERS = word_set(
    "Henry Louis Edward George William James Richard Elizabeth Napoleon Pius Benedict Leo Paul Ramses Frederick "
    "Philip Alexander Nicholas Peter Catherine Ivan Umberto Emmanuel Gustav Ferdinand Gregory Innocent Clement Urban "
    "Charles Francis Haakon Harald Carl Albert Leopold Wilhelm Mehmed Murad Selim Ptolemy Cleopatra Darius Xerxes "
    "Mary Margaret Otto Henri Felipe Carlos Malcolm Robert Edmund Harold Thutmose Amenhotep Theodosius Constantine "
    "Rudolf Maximilian Joseph Sixtus Boniface Vladimir Ramesses Michael John Adrian Celestine Christian Olav Olaf "
    "Kamehameha Rama Baldwin Edgar Alfonso Alphonse Afonso Pedro Stephen Sigismund Casimir Ladislaus Matthias "
    "Justinian Artaxerxes Seti Manuel Juan Alexios Basil Leopold Ludwig Maria Isabella Joan Anne Beatrix Wilhelmina "
    "Juliana Philippe Baudouin Hussein Abdullah Mohammed Hassan Faisal Fuad Farouk Julius Calixtus Eugene Victor "
    "Marcellus Callixtus Hadrian Honorius Lucius Urban Mahmud Suleiman Bayezid Ahmed Mustafa Osman Akbar Tiberius "
    "Valentinian Romanos Kenneth")
"""Names whose numbers are ordinals."""
NUMBERED = word_set(
    "chapter part act scene section volume book phase article war mark type level stage class grade bowl apollo "
    "gemini fantasy episode round rocky table figure fig appendix annex unit step division title schedule quarter "
    "year generation version vol world saturn soyuz vostok voyager pioneer model series group category tier zone "
    "factor region panel plate canto psalm lesson module axis clause paragraph rule amendment protocol vatican "
    "mercury iteration edition league wrestlemania rambo olympiad games theorem lemma sonata symphony concerto opus "
    "no number page century legion army corps era dynasty item problem exercise question error trial trials option "
    "plan line cycle day week game match set movement quest warcraft civilization diablo doom hamlet macbeth alien "
    "godfather jaws halloween saw shrek terminator gladiator corner mission bloc wave arm ward province cluster "
    "polymerase photosystem complex collagen schema titan trident minuteman tiger panzer spitfire leopard")
"""Words whose Roman numerals are cardinals."""
