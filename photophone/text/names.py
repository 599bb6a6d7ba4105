"""How signs, units, currencies, letters and endings are called: the tables of :mod:`photophone.text.written_forms`."""

from __future__ import annotations

_GREEK = ("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mew new ksigh omicron pie row sigma tau "
          "upsilon fie kai psi omega")
_REGNAL = ("Henry|Louis|Edward|George|William|James|Richard|Elizabeth|Napoleon|Pius|Benedict|Leo|John Paul|Ramses|"
           "Frederick|Philip|Alexander|Nicholas|Peter|Catherine|Ivan|Umberto|Victor Emmanuel|Gustav|Ferdinand|"
           "Pope John|Pope Paul|Pope Gregory|Pope Innocent|Pope Clement|Pope Urban|Charles|Francis|Haakon|Harald|Carl|"
           "Albert|Leopold|Wilhelm|Mehmed|Murad|Selim|Ptolemy|Cleopatra|Darius|Xerxes|Mary|Margaret|Otto|Henri|Felipe|"
           "Juan Carlos|Malcolm|Robert|Edmund|Harold|Thutmose|Amenhotep|Theodosius|Constantine|Rudolf|Maximilian|"
           "Joseph|Sixtus|Boniface|Vladimir|Ramesses|Michael")
_FUNCTION_WORDS = (
    "A ABOUT ALL ALSO AM AN AND ANY ARE AS AT BE BEEN BUT BY CAN DID DO FOR FROM GET HAD HAS HAVE HE HER HERE HIM HIS "
    "HOW I IF IN INTO IS IT ITS JUST LIKE MAKE MAY ME MORE MOST MUST MY NEVER NO NOT NOW OF ON ONE ONLY OR OUR OUT "
    "OVER SEE SHE SHOULD SO SOME SUCH THAN THAT THE THEIR THEM THEN THERE THESE THEY THIS TO TOO TWO UP US VERY WAS WE "
    "WERE WHAT WHEN WHERE WHICH WHILE WHO WHY WILL WITH WOULD YES YOU YOUR")
TOP_LEVEL = {"com": "com", "org": "org", "net": "net", "gov": "gov", "info": "info", "biz": "biz", "co": "co",
             "me": "me", "app": "app", "dev": "dev", "blog": "blog", "shop": "shop", "xyz": "XYZ",
             "edu": "EDU", "us": "U.S.",
             **{name: name.upper() for name in ("io", "ai", "uk", "de", "fr", "eu", "ca", "au", "tv", "jp", "ch", "nl",
                                                "nz", "cn", "ru", "br", "se", "fm", "gg", "ly")}}
"""Endings of names in the web."""

EXTENSIONS = {**{name: name.upper() for name in ("pdf", "md", "js", "ts", "csv", "xml", "html", "htm", "css", "png",
                                                 "svg", "exe", "dll", "rs", "ppt", "xls", "sql", "cpp", "sh", "gz")},
              "py": "pie", "txt": "text", "zip": "zip", "doc": "dock", "docx": "dock X", "jpg": "jay peg",
              "jpeg": "jay peg", "json": "jason", "mp3": "MP3", "mp4": "MP4", "pptx": "PPT X", "xlsx": "XLS X",
              "wav": "wave", "gif": "gif", "yaml": "yammel",
              "yml": "yammel", "toml": "tommel", "log": "log", "bat": "bat", "tar": "tar", "java": "java",
              "flac": "flack", "safetensors": "safe tensors", "onnx": "onyx"}
"""Endings of file names."""

_DOLLAR = ("dollar", "dollars", "cent", "cents")
CURRENCIES = {
    "$": _DOLLAR, "US$": ("US dollar", "US dollars", "cent", "cents"), "USD": ("US dollar", "US dollars", "cent",
                                                                                "cents"),
    "A$": ("Australian dollar", "Australian dollars", "cent", "cents"),
    "C$": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"), "GBP": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "EUR": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""), "JPY": ("yen", "yen", "", ""), "₹": ("rupee", "rupees", "", ""),
    "₩": ("won", "won", "", ""), "₽": ("rouble", "roubles", "", ""), "₿": ("bitcoin", "bitcoins", "", ""),
    "₺": ("lira", "lira", "", ""), "₪": ("shekel", "shekels", "", ""), "CHF": ("Swiss franc", "Swiss francs", "", ""),
}
"""One, many, hundredth, hundredths; the last two empty where they are not said."""
MAGNITUDES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "b": "billion",
              "B": "billion", "bn": "billion", "T": "trillion", "tn": "trillion"}

UNITS = {
    "m": ("meter", "meters"), "g": ("gram", "grams"), "L": ("liter", "liters"), "l": ("liter", "liters"),
    "mL": ("milliliter", "milliliters"), "h": ("hour", "hours"), "V": ("volt", "volts"), "W": ("watt", "watts"),
    "mV": ("millivolt", "millivolts"), "mA": ("milliamp", "milliamps"), "dB": ("decibel", "decibels"),
    "Pa": ("pascal", "pascals"), "hPa": ("hectopascal", "hectopascals"), "kPa": ("kilopascal", "kilopascals"),
    "kJ": ("kilojoule", "kilojoules"), "kcal": ("kilocalorie", "kilocalories"), "ha": ("hectare", "hectares"),
    "bpm": ("beat per minute", "beats per minute"), "rpm": ("revolution per minute", "revolutions per minute"),
    "ppm": ("part per million", "parts per million"), "kbps": ("kilobit per second", "kilobits per second"),
    "kB/s": ("kilobyte per second", "kilobytes per second"), "MB/s": ("megabyte per second", "megabytes per second"),
    "GB/s": ("gigabyte per second", "gigabytes per second"), "m/s": ("meter per second", "meters per second"),
    "km/s": ("kilometer per second", "kilometers per second"), "ft/s": ("foot per second", "feet per second"),
    "m/s²": ("meter per second squared", "meters per second squared"),
    "m²": ("square meter", "square meters"), "m³": ("cubic meter", "cubic meters"),
    "km²": ("square kilometer", "square kilometers"), "cm²": ("square centimeter", "square centimeters"),
    "cm³": ("cubic centimeter", "cubic centimeters"), "µs": ("microsecond", "microseconds"),
    "μs": ("microsecond", "microseconds"), "μm": ("micrometer", "micrometers"), "μg": ("microgram", "micrograms"),
    "ft": ("foot", "feet"), "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"),
    "min": ("minute", "minutes"), "hrs": ("hour", "hours"), "hr": ("hour", "hours"), "sec": ("second", "seconds"),
    "yd": ("yard", "yards"), "mi": ("mile", "miles"),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"), "GiB": ("gibibyte", "gibibytes"),
    "MiB": ("mebibyte", "mebibytes"), "km": ("kilometer", "kilometers"), "kg": ("kilogram", "kilograms"),
    "cm": ("centimeter", "centimeters"), "mm": ("millimeter", "millimeters"),
}
"""One and many of units behind a number."""

SYMBOLS = {"≤": "is at most", "≥": "is at least", "≠": "is not equal to", "≈": "is about", "∞": "infinity",
           "√": "the square root of", "∑": "the sum of", "∫": "the integral of", "∈": "in", "→": "to", "⇒": "implies",
           "->": "to", "=>": "implies", "<=": "is at most", ">=": "is at least", "!=": "is not equal to",
           "==": "equals", "‰": "per mille", "−": "minus", "∂": "partial", "∆": "delta", "←": "from", "↔": "and",
           "=": "equals", "©": "copyright", "½": "one half", "¼": "one quarter", "¾": "three quarters",
           "★": "star", "☆": "star", "×": "times", "÷": "divided by"}
GREEK = dict(zip("αβγδεζηθικλμνξοπρστυφχψω", _GREEK.split()))
GREEK.update({"µ": "micro", "Δ": "delta", "Σ": "sigma", "Ω": "omega", "Φ": "fie", "Π": "pie", "Θ": "theta",
              "Λ": "lambda", "Ψ": "psi", "Γ": "gamma"})

REGNAL = _REGNAL.split("|")
"""Names of rulers, whose numbers are ordinals."""

FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that are no abbreviations when they stand among other words in capitals."""
