"""What the rules take out of texts, and what they leave."""

import unicodedata

import pytest

from medlike.imaging import deidentify, nameless, plain

WHO = {
    "patient_name": "Doe^Jane Ann", "referring_physician": "O'Brien^Pat", "patient_id": "P-4711",
    "operator": "Op^Ra\\Kim^Li", "accession_number": "ACC99", "institution": "St. Elsewhere",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Jane Doe was seen by O'Brien.", "[name] [name] was seen by [name]."),
        ("DOE, jane: no effusion", "[name], [name]: no effusion"),
        ("P-4711 at St. Elsewhere, ACC99", "[id] at [id], [id]"),
        ("Seen by Dr. Smith and Prof. Dr. med. Hans Müller-Lüdenscheidt.", "Seen by [name] and [name]."),
        ("Frau Klöbner, Mrs Jones, Ms. A. Lee", "[name], [name], [name]"),
        ("Dictated by John Q. Public", "[name]"),
        ("Name: Mustermann, Max", "[name]"),
        ("On 2024-02-29, 29.02.2024, 2/29/24, 20240229.", "On [date], [date], [date], [date]."),
        ("On 3 March 2021, March 3rd, 2021, Feb 2021.", "On [date], [date], [date]."),
        ("MRN: 12345678, accession no. A-77, 123-45-6789", "[id], [id], [id]"),
        ("Call +49 511 532 1234, (0511) 532 55 or 555-123-4567", "Call [phone], [phone] or [phone]"),
        ("a.b@clinic.org, https://pacs.example/x?id=1", "[address], [address]"),
        ("1.2.840.113619.2.55.3.604688", "[id]"),
    ],
)
def test_identifiers_are_taken_out(text, clean):
    found = deidentify(text, WHO)
    assert found.text == clean
    assert found.count == clean.count("[")
    assert deidentify(found.text, WHO).text == clean


@pytest.mark.parametrize(
    "text",
    [
        "Lesion of 3.5 x 2.1 cm at L4/5, T12; 5/10, 1.5 T, 120 kVp.",
        "May be a nodule of 5 mm. BI-RADS 4. Marching bones.",
        "TI-RADS 3, ADC 1.2 to 1.4, SUV 12.4, 45-year-old man, 2019 guideline.",
        "No Pneumothorax. Grade 3/4 chondral defect; slices 1-20 of 40.",
        "胸腔积液 左侧, выпот слева",
    ],
)
def test_findings_stay(text):
    assert deidentify(text, WHO) == deidentify(text)
    assert (deidentify(text).text, deidentify(text).count) == (text, 0)


#: Ten scripts and more: names as PN has them -> a text that holds them, and what must be gone from it.
SCRIPTS = {
    "Latin": ("Kowalska^Anna Łucja", "KOWALSKA_ANNA_CT_CHEST; AnnaKowalska; lucja2", ["kowalska", "anna", "lucja"]),
    "Latin with accents": ("Müller-Weiß^Zoë", "MUELLER WEISS, Zoe^müller/WEIß", ["ller", "wei", "zo"]),
    "Turkish": ("Yılmaz^İpek", "YILMAZ IPEK, yilmaz ipek", ["y", "ipek"]),
    "Vietnamese": ("Nguyễn^Thị Minh", "NGUYEN_THI-MINH Nguyễn Thị Minh", ["nguy", "minh"]),
    "Han": ("Wang^XiaoDong=王^小东", "王小东 胸部CT平扫, 小东先生王_小东", ["王", "小东"]),
    "Han, one character each": ("Li^Ming=李^明", "李明胸部CT 病灶明显, 李先生", ["李"]),
    "Han, one component": ("王小东", "患者王小东复查, 小东", ["王", "小东"]),
    "Japanese": (
        "Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太郎様 ヤマダタロウ ﾔﾏﾀﾞ たろうの胸部",
        ["山田", "太郎", "ヤマダ", "ﾔﾏﾀ", "たろう"],
    ),
    "Korean": ("Kim^Minsu=金^民秀=김^민수", "김민수는 흉부CT, 민수의, 金民秀 김씨", ["김", "민수", "金", "民秀"]),
    "Cyrillic": ("Иванова^Анна", "ИВАНОВА_АННА2; у Ивановой", ["иванова", "анна"]),
    "Greek": ("Παπαδόπουλος^Γιώργος", "ΠΑΠΑΔΟΠΟΥΛΟΣ_ΓΙΩΡΓΟΣ_CT", ["ΠΑΠΑ", "ΓΙΩΡΓΟ"]),
    "Arabic": ("الأحمد^فاطمة", "فحص فاطمة الاحمد، لفاطمه", ["فاطم", "احمد"]),
    "Hebrew": ("כהן^שרה", "CT_כהן_שרה, שָׂרָה", ["כהן", "שר"]),
    "Devanagari": ("शर्मा^सुनीता", "शर्मा_सुनीता CT छाती", ["शर्मा", "सुनीता"]),
    "Thai": ("ใจดี^สมชาย", "นายสมชายใจดี เอกซเรย์ปอด", ["สมชาย", "ใจดี"]),
    "Armenian": ("Պետրոսյան^Անի", "ՊԵՏՐՈՍՅԱՆ_ԱՆԻ", ["ՊԵՏՐ", "ԱՆԻ"]),
    "Tamil": ("கண்ணன்^முருகன்", "முருகன்_கண்ணன் CT", ["முருகன்", "கண்ணன்"]),
}  # fmt: skip


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_names_of_every_script_are_gone(script, form):
    name, text, gone = SCRIPTS[script]
    text = unicodedata.normalize(form, text)
    for key in ("patient_name", "names_in_file"):
        for stated in (name, unicodedata.normalize("NFC" if form == "NFD" else "NFD", name)):
            found = deidentify(text, {key: stated}).text
            shown = found.replace("[name]", "").casefold()
            assert not [part for part in gone if unicodedata.normalize("NFC", part).casefold() in shown], found
            assert "[name]" in found and deidentify(found, {key: stated}).text == found


def test_what_stands_beside_a_name_stays():
    for name, text, clean in (
        ("王^小东", "王小东 胸部CT平扫", "[name] 胸部CT平扫"),
        ("李^明", "李明: 病灶明显增大", "[name]: 病灶明显增大"),
        ("高^明", "高密度影, 明显", "高密度影, 明显"),
        ("Wu^Li", "CHEST LI WU FOLLOW-UP", "CHEST [name] [name] FOLLOW-UP"),
        ("Li^Wu", "liver, wuchereria, Li2", "liver, wuchereria, [name]2"),
        ("Do^An", "No change, to do: an MR. Seen: DO, AN", "No change, to do: an MR. Seen: [name], [name]"),
        ("Doe^J^Q", "MR of J. Doe, DOE J Q; Q sign", "MR of [name]. [name], [name] [name] [name]; Q sign"),
        ("Tech^CT", "CT CHEST", "CT CHEST"),
        ("Becker^Eva", "Evaluation", "Evaluation"),
        ("ＫＯＷＡＬＳＫＡ", "kowalska x ｋowalska", "[name] x [name]"),
        ("Kowalska", "Ko\u200bwalska x", "[name] x"),
        ("O'Neill^Seán", "ONEILL oneill2 O’Neill", "[name] [name]2 [name]’[name]"),
        ("García-López^María José", "GARCIALOPEZ mariajose x", "[name] [name] x"),
        ("de la Cruz^Ana", "DELACRUZ_ANA of de", "[name]_[name] of de"),
        ("शर्मा^राम", "शर्माराम x", "[name] x"),
        ("Smith^John", "jsmith smithj_1 JSMITH smithy", "[name] [name]_1 [name] smithy"),
        ("王小东", "患者王先生复查, 国王", "患者[name]先生复查, 国王"),
    ):  # fmt: skip
        assert deidentify(text, {"patient_name": name}).text == clean


def test_function_words_and_codes_stay_alone():
    # Names that are such words go only beside another word of the name.
    for word in ("An", "Do", "To", "CT", "van"):
        assert deidentify(f"{word} of the lung", {"patient_name": f"Xyz^{word}"}).text == f"{word} of the lung"
    assert deidentify("normal", {"patient_name": "", "patient_id": "12"}).text == "normal"


@pytest.mark.parametrize(
    "written",
    [
        "19600102", "1960-01-02", "1960_01_02", "02.01.1960", "2.1.1960", "1/2/1960", "1960/1/2", "1960 01 02",
        "2.1.60", "02011960", "600102", "2 Jan 1960", "2. Januar 1960", "2 janvier 1960", "2 de enero de 1960",
        "Jan 2nd, 1960", "1960年1月2日", "1960년 1월 2일", "１９６０-０１-０２", "١٩٦٠-٠١-٠٢", "02/01/2503",
        "1960-Jan-02",
    ],
)  # fmt: skip
def test_a_date_of_the_file_is_found_in_every_formatting(written):
    for text in (f"CT {written} chest", f"CT_{written}_chest", f"dob {written}, chest", f"胸部 {written}胸部"):
        found = deidentify(text, {"dates_in_file": "19600102"}).text
        assert not any(sign.isdigit() for sign in found), found
        assert found.startswith(("CT", "dob", "胸部")) and found.endswith(("chest", "胸部"))


@pytest.mark.parametrize(
    "written", ["00123456", "123456", "12-34-56", "MRN123456", "MRN_123456", "x123456y", "１２３４５６"]
)
def test_an_id_of_the_file_is_found_in_every_formatting(written):
    for text in (f"CT {written} chest", f"CT_{written}_chest"):
        assert "1" not in deidentify(text, {"numbers_in_file": "00123456"}).text.replace("１", "1")
    assert deidentify("1234567 and 2 mm", {"numbers_in_file": "x\\ACC-9/7"}).text == "[id] and 2 mm"
    for text in ("chestAB12345", "CHESTab-12345CT", "AB12345"):
        assert "12345" not in deidentify(text, {"patient_id": "AB-12345"}).text
    assert deidentify("ACC97, acc_9_7 ACC978", {"accession_number": "ACC-9/7"}).text.startswith("[id], [id] ")


@pytest.mark.parametrize(
    ("name", "text", "clean"),
    [
        ("Müller^Hans", "Mueller's hip, Müllers Hüfte, MUELLERS", "[name]'s hip, [name] Hüfte, [name]"),
        ("Meyer^Kim", "Meyers Knie, MEYERS, meyer's, Kims knee", "[name] Knie, [name], [name]'s, [name] knee"),
        ("Bäck^Jan", "Baecks, bäcks", "[name], [name]"),
        ("Doe^Lee", "does not, lees, doest", "does not, lees, doest"),
    ],
)  # fmt: skip
def test_a_short_name_is_found_in_the_genitive(name, text, clean):
    assert deidentify(text, {"patient_name": name}).text == clean


def test_numbers_are_found_across_joins():
    text = "CT_THORAX_19600102_MRN12345678_1960-01-02_1.2.840.113619.2.55.3_+49 511 532 1234 a.b@clinic.org_ok"
    assert deidentify(text).text == "CT_THORAX_[date]_[id]_[date]_[id]_[phone] [address]_ok"
    assert deidentify("CHEST_Dr_Smith").text == "CHEST_[name]"


def test_a_date_is_looked_for_in_metadata_and_no_rule_is():
    who = {"names_in_file": "Doe^Jane", "dates_in_file": "19600102", "numbers_in_file": "4711X"}
    facts = {"body_part": "DOE JANE", "model": "4711X of 1960-01-02", "region": "chest", "age": 3, "kind": "20240229"}
    assert nameless(facts, who) == {**facts, "body_part": "[name] [name]", "model": "[id] of [date]"}
    assert nameless({"remark": "4711X Doe"}, who, numbers=False) == {"remark": "4711X [name]"}
    # Words of the collection, the same for many patients, are no patient's name.
    assert nameless({"label": "CT_doe_lesion"}, who) == {"label": "CT_doe_lesion"}


def test_control_characters_and_halves_of_characters_go():
    assert plain("a\x00b\r\n\tc\ud800 d") == "a b c d"
    assert plain("\x07\n") == ""
