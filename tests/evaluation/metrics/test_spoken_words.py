"""Written and spoken forms of the same words have the same words, and other words have others."""

import random

import pytest

from photophone.evaluation.metrics.audio import word_error_rate
from photophone.evaluation.metrics.spoken_words import spoken_words

SAME = [
    ("It was -5 degrees", "It was minus five degrees."), ("One and a half hours", "1.5 hours"),
    ("1½ hours", "one and a half hours"), ("1 1/2 hours", "1.5 hours"), ("In 1990", "in nineteen ninety"),
    ("in 2005", "In twenty oh five"), ("1990", "one thousand nine hundred and ninety"),
    ("$25.50", "twenty-five dollars and fifty cents"), ("$1.5 million", "one and a half million dollars"),
    ("$1.5 million", "one point five million dollars"), ("21st", "twenty-first"),
    ("the 101st time", "the one hundred and first time"), ("3:30 p.m.", "three thirty PM"), ("10:05", "ten oh five"),
    ("at 3:00", "at three o'clock"), ("-40°C", "minus forty degrees Celsius"), ("5%", "five per cent"),
    ("1,250,000 people", "one million two hundred and fifty thousand people"), ("the 1990s", "the nineteen nineties"),
    ("'80s", "eighties"), ("1/2 cup", "half cup"), ("a half cup", "one half cup"), ("3/4", "three quarters"),
    ("2 3/4", "two and three quarters"), ("0.5", "point five"), (".5", "zero point five"),
    ("555-1234", "five five five one two three four"), ("5-10 people", "five to ten people"), ("No. 5", "number five"),
    ("5 km", "five kilometres"), ("a 5km run", "a five kilometer run"),
    ("120 km/h", "one hundred twenty kilometers per hour"), ("U.S.A.", "USA"),
    ("Mr. Smith can't", "mister smith can not"), ("3.14", "three point one four"), ("a hundred", "100"),
    ("two oh one", "201"), ("negative five", "-5"), ("nine 11", "911"), ("R&D", "r and d"), ("zero", "0"),
    ("0", "nought"), ("2nd", "second"), ("100th", "one hundredth"), ("room 007", "room zero zero seven"),
    ("24/7", "twenty four seven"), ("10th", "tenth"), ("£3", "three pounds"), ("$1", "one dollar"),
    ("7 p.m.", "seven pm"), ("12 m", "twelve meters"), ("half past five", "half past 5"),
    ("quarter to six", "quarter to 6"), ("5'10\"", "five ten"), ("1.2.3", "one point two point three"),
    ("$0.99", "ninety-nine cents"), ("an hour and a half", "an hour and a half"),
    ("20th century", "twentieth century"), ("two and a half", "2½"), ("five, six", "5, 6"), ("He's 40", "he is forty"),
    ("one hundred and one dalmatians", "101 Dalmatians"), ("1,000", "a thousand"), ("3 million", "three million"),
    ("2.5 million", "two and a half million"), ("-$5", "minus five dollars"), ("4x4", "four x four"),
    ("5000 m", "five thousand metres"), ("fifteen hundred", "1500"), ("90-year-old", "ninety year old"),
    ("mp3", "MP three"), ("1st", "first"), ("Covid-19", "covid nineteen")]
OTHER = [("It was -5 degrees", "It was 5 degrees"), ("1.5 hours", "15 hours"), ("21st", "21"), ("5%", "5"),
         ("$5", "£5"), ("3:30", "3:13"), ("1990s", "1990"), ("1/2", "1/4"), ("2 km", "2 m"), ("sixteen", "sixty")]


@pytest.mark.parametrize(("written", "said"), SAME)
def test_one_form_for_what_is_said(written, said):
    assert spoken_words(written) == spoken_words(said)
    assert word_error_rate([f"We say {written} here."], [f"we say {said} here"]) == 0


@pytest.mark.parametrize(("first", "second"), OTHER)
def test_other_words_stay_other_words(first, second):
    assert spoken_words(first) != spoken_words(second)


def test_plain_words_are_left_as_they_are():
    text = "We walked along the river until it was dark"
    assert spoken_words(text) == text.lower().split()
    assert spoken_words("[noise]") == spoken_words("") == []


def test_no_text_is_too_odd():
    draw = random.Random(0)
    signs = "0123456789.,:/-+$£€%°'½¾²٣ abkmMhst()[]<>&@#=\n"
    for _ in range(3000):
        spoken_words("".join(draw.choice(signs) for _ in range(draw.randrange(30))))
    assert len(spoken_words("9" * 6000)) == 6000
