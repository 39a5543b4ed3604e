"""Words in column names that tell what a column holds, in the languages hospitals write them.

A name is cut into lower-case words without accents (`words`); a topic matches when one of its
words, or of its runs of words joined by "_", occurs.
"""

from __future__ import annotations

import functools
import re
import unicodedata

__all__ = ["IDENTIFYING", "OF_OTHERS", "QUASI", "SENSITIVE", "topics_of", "words"]

# topic → words; entries with "_" are runs of words
IDENTIFYING: dict[str, str] = {
    "a person's name": (
        "surname forename firstname first_name lastname last_name middle_name full_name fullname"
        " maiden_name patient_name patientname pat_name person_name given_name family_name"
        " mother_name nachname vorname familienname patientenname geburtsname nom_famille prenom"
        " nom_patient nom_naissance apellido apellidos nombre nombre_paciente cognome"
        " nome_paziente sobrenome nome_paciente achternaam voornaam efternamn fornamn etunimi"
        " sukunimi nazwisko imie familiya фамилия имя отчество 氏名 患者名 姓名 名前 이름 soyadi"
        " next_of_kin physician_name doctor_name"
    ),
    "a patient or record number": (
        "mrn patient_id patientid patient_no patient_nr patient_nbr patientnbr patient_number"
        " patientnummer pat_id patid pat_nr person_id personid subject_id subjectid subject_no"
        " medical_record record_number record_id hospital_number hospital_no hosp_no case_no"
        " case_number case_id fallnummer fall_nr fall_id patientennummer numero_dossier ipp nda"
        " num_patient id_patient numero_patient nhc numero_historia id_paciente num_paciente"
        " id_paziente numero_cartella prontuario patientnr journalnummer encounter_id visit_id"
        " hadm_id stay_id icustay_id accession accession_number chart_number eid uhid empi"
        " specimen_id sample_id 患者番号 患者id 病历号 住院号 barcode"
    ),
    "a national identity number": (
        "ssn social_security nhs_number nhs_no nhsnumber chi_number nino national_id nationalid"
        " national_number sozialversicherungsnummer svnr steuer_id krankenversichertennummer"
        " versichertennummer kvnr nir insee numero_securite_sociale num_secu dni nie nif"
        " codice_fiscale codicefiscale cpf cns cartao_sus bsn burgerservicenummer personnummer"
        " fodselsnummer cpr cpr_nr henkilotunnus hetu pesel rodne_cislo egn cnp amka tckn"
        " aadhaar aadhar passport passport_no reisepass passeport pasaporte снилс 身份证"
        " 身份证号 マイナンバー insurance_number policy_number medicare_number medicaid_id"
    ),
    "an e-mail address": "email e_mail mail emailadresse courriel correo posta_elettronica",
    "a telephone number": (
        "phone telephone tel mobile cell_phone cellphone phone_number fax telefon telefonnummer"
        " handy mobilnummer portable telefono movil celular cellulare telefoon puhelin 電話"
        " 电话 телефон"
    ),
    "an address": (
        "address street street_address addr home_address adresse anschrift strasse hausnummer"
        " rue direccion calle domicilio indirizzo endereco straat adres adress adresa адрес 住所"
        " 地址 latitude longitude lat_lon gps geocode"
    ),
    "a date of birth": (
        "dob birthdate birth_date date_of_birth dateofbirth birthday geburtsdatum geb_datum"
        " gebdat geburtstag date_naissance date_de_naissance ddn fecha_nacimiento"
        " fecha_de_nacimiento fnac data_nascita data_di_nascita data_nascimento geboortedatum"
        " fodelsedatum fodselsdato syntymaaika data_urodzenia дата_рождения 生年月日 出生日期"
    ),
    "a postcode": (
        "zip zipcode zip_code postcode post_code postal_code postalcode plz postleitzahl"
        " code_postal codigo_postal cap_residenza cep postnummer postnr postinumero"
        " kod_pocztowy psc 郵便番号 邮编 индекс"
    ),
    "a device or account number": (
        "device_id serial_number serial_no implant_serial ip ip_address mac_address url iban"
        " account_number credit_card card_number license_plate licence_number kontonummer"
    ),
    "free text": (
        "notes note comment comments remark remarks narrative freetext free_text bemerkung"
        " bemerkungen kommentar anamnese befund befundtext remarque commentaire observaciones"
        " comentario osservazioni opmerking fritext discharge_summary clinical_note"
    ),
}

QUASI: dict[str, str] = {
    "sex": "sex gender geschlecht sexe sexo sesso geslacht kon kjonn sukupuoli plec пол 性別 性别",
    "age": "age alter age_years ageyears idade edad eta leeftijd alder ika wiek возраст 年齢 年龄",
    "birth": (
        f"{IDENTIFYING['a date of birth']} birth_year year_of_birth yob geburtsjahr annee_naissance"
    ),
    "place": (
        f"{IDENTIFYING['a postcode']} city town county region district country state_province"
        " municipality ort wohnort stadt bundesland ville departement commune ciudad provincia"
        " comune citta cidade municipio woonplaats kommun kommune kunta hospital ward site centre"
        " center institution krankenhaus klinik"
    ),
    "race": "race ethnicity ethnic ethnic_group ethnie raza etnia raca herkunft 人種 民族",
    "nationality": "nationality citizenship staatsangehoerigkeit nationalite nacionalidad language"
    " mother_tongue religion religious confession konfession",
    "family": "marital marital_status marstat familienstand etat_civil situation_familiale"
    " estado_civil stato_civile burgerlijke_staat civilstand children parity",
    "work": "occupation profession job beruf metier ocupacion professione profissao beroep yrke"
    " education bildung schulabschluss studies diploma insurance payer payer_code income",
    "event date": (
        "admission_date admit_date admitdate date_of_admission discharge_date disch_date"
        " date_of_discharge death_date date_of_death dod visit_date surgery_date aufnahmedatum"
        " entlassdatum entlassungsdatum sterbedatum date_entree date_sortie date_deces"
        " fecha_ingreso fecha_alta data_ricovero data_dimissione admittime dischtime deathtime"
    ),
}

SENSITIVE: tuple[str, ...] = ("sex", "race", "nationality", "age")

# whose number it is, if not a patient's
OF_OTHERS = frozenset(
    "provider doctor physician surgeon nurse staff operator reader rater hospital site centre"
    " center clinic ward unit department institution device study trial arm batch plate arzt"
    " klinik station medecin hopital medico medecins ospedale practice gp consultant".split()
)

_NOT_DECOMPOSED = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ı": "i"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_WORD = re.compile(r"[\W_]+")


def words(name: str) -> list[str]:
    """Cut a column's name into lower-case words without accents."""
    flat = unicodedata.normalize("NFKD", _CAMEL.sub("_", name)).casefold()
    flat = "".join(c for c in flat if not unicodedata.combining(c)).translate(_NOT_DECOMPOSED)
    return [word for word in _NOT_WORD.split(flat) if word]


def topics_of(name: str, topics: dict[str, str]) -> list[str]:
    """Return the topics that a column's name speaks of, in their order."""
    cut = words(name)
    runs = {"_".join(cut[i:j]) for i in range(len(cut)) for j in range(i + 1, min(i + 4, 9 + i))}
    runs |= {"".join(cut)}
    return [topic for topic, listed in topics.items() if not runs.isdisjoint(_known(listed))]


@functools.cache
def _known(listed: str) -> frozenset[str]:
    return frozenset("_".join(words(word)) for word in listed.split())
