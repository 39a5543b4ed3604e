"""A small OMOP CDM made by hand, and what both tests of its door compare with."""

import csv
from pathlib import Path

import numpy as np

from manikin.data.events import Events

__all__ = ["CDM", "assert_same", "files"]

# Person 1: a woman born 15 March 1960, inpatient 1 to 4 February 2020 (three nights) with diabetes
# (SNOMED 44054006) and metformin on the 3rd; two HbA1c, one of them after she left.
# Person 2: a man born in 1980, outpatient 10 June 2021; he died on 1 July 2021.
# Person 3: of unknown race, with no event at all.
CDM: dict[str, str] = {
    "person": """
person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth,birth_datetime,race_concept_id,ethnicity_concept_id,person_source_value,gender_source_value,race_source_value
1,8532,1960,3,15,,8527,38003564,MRN-778,F,white
2,8507,1980,,,,8516,38003563,MRN-779,M,black
3,8507,1990,12,31,1990-12-31 00:00:00,0,0,MRN-780,M,
""",
    "observation_period": """
observation_period_id,person_id,observation_period_start_date,observation_period_end_date,period_type_concept_id
1,1,2020-02-01,2020-05-20,32817
2,2,2021-01-01,2021-12-31,32817
""",
    "visit_occurrence": """
visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_start_datetime,visit_end_date,visit_end_datetime,visit_type_concept_id,visit_source_value
901,1,9201,2020-02-01,2020-02-01 08:30:00,2020-02-04,2020-02-04 17:00:00,32817,a4c3-77
902,2,9202,2021-06-10,2021-06-10 09:00:00,2021-06-10,2021-06-10 10:00:00,32817,a4c3-78
""",
    "condition_occurrence": """
condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_start_datetime,condition_end_date,condition_type_concept_id,visit_occurrence_id,condition_source_value,condition_source_concept_id
1,1,201826,2020-02-01,2020-02-01 09:00:00,,32817,901,E11.9,0
2,2,0,2021-06-10,2021-06-10 09:10:00,2021-06-20,32817,902,J06.9,0
3,2,0,2021-06-10,2021-06-10 09:20:00,,32817,902,pain in the left knee since May,0
""",
    "drug_exposure": """
drug_exposure_id,person_id,drug_concept_id,drug_exposure_start_date,drug_exposure_start_datetime,drug_exposure_end_date,drug_type_concept_id,quantity,visit_occurrence_id,drug_source_value
1,1,1503297,2020-02-03,2020-02-03 12:00:00,2020-03-03,32817,60,901,6809
""",
    "measurement": """
measurement_id,person_id,measurement_concept_id,measurement_date,measurement_datetime,measurement_type_concept_id,value_as_number,value_as_concept_id,unit_concept_id,visit_occurrence_id,measurement_source_value,unit_source_value,value_source_value
1,1,3004410,2020-02-01,2020-02-01 10:00:00,32817,8.25,0,8554,901,4548-4,%,8.25
2,1,3004410,2020-05-20,2020-05-20 10:00:00,32817,7.1,0,8554,,4548-4,%,7.1
3,2,3020891,2021-06-10,2021-06-10 09:05:00,32817,,9191,0,902,5778-6,,pos
""",
    "observation": """
observation_id,person_id,observation_concept_id,observation_date,observation_datetime,observation_type_concept_id,value_as_string,visit_occurrence_id,observation_source_value
1,2,4144272,2021-06-10,2021-06-10 09:00:00,32817,never smoked,902,smoking
""",
    "death": """
person_id,death_date,death_datetime,death_type_concept_id,cause_concept_id
2,2021-07-01,,32817,4329847
""",
    "concept": """
concept_id,concept_name,domain_id,vocabulary_id,concept_class_id,standard_concept,concept_code,valid_start_date,valid_end_date,invalid_reason
201826,Type 2 diabetes mellitus,Condition,SNOMED,Clinical Finding,S,44054006,20020131,20991231,
201820,Diabetes mellitus,Condition,SNOMED,Clinical Finding,S,73211009,20020131,20991231,
1503297,metformin,Drug,RxNorm,Ingredient,S,6809,19700101,20991231,
3004410,Hemoglobin A1c,Measurement,LOINC,Lab Test,S,4548-4,19700101,20991231,
3020891,Color of Urine,Measurement,LOINC,Lab Test,S,5778-6,19700101,20991231,
9191,Positive,Meas Value,SNOMED,Qualifier Value,S,10828004,19700101,20991231,
4329847,Myocardial infarction,Condition,SNOMED,Clinical Finding,S,22298006,20020131,20991231,
""",
    "concept_ancestor": """
ancestor_concept_id,descendant_concept_id,min_levels_of_separation,max_levels_of_separation
201826,201826,0,0
201820,201826,1,1
441840,201826,3,5
""",
    "cdm_source": """
cdm_source_name,cdm_source_abbreviation,cdm_holder,source_description,vocabulary_version
A hospital,AH,AH,Records of patients,v5.0 31-AUG-23
""",
}


def files(folder: Path, *, upper: bool = False, **changed: str | None) -> Path:
    """Write the CDM as CSV files, with tables replaced, or left out where None."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, text in (CDM | changed).items():
        if text is not None:
            name = table.upper() if upper else table
            (folder / f"{name}.csv").write_text(text.lstrip("\n"), encoding="utf-8")
    return folder


def records(table: str) -> list[dict[str, str]]:
    """Return the rows of a table of the CDM."""
    return list(csv.DictReader(CDM[table].strip().splitlines()))


def assert_same(one: Events, other: Events) -> None:
    """Both are the same histories, whatever the numbers of their texts."""
    assert one.schema == other.schema
    assert np.array_equal(one.subjects, other.subjects)
    for name in ("whose", "code", "visit"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert np.array_equal(one.value, other.value, equal_nan=True)
    for name in ("time", "end"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name
    said = [np.array([*part.texts, None], object)[part.text] for part in (one, other)]
    assert said[0].tolist() == said[1].tolist()
    assert set(one.static.columns) == set(other.static.columns)
    for name, cells in one.static.columns.items():
        same = cells.dtype.kind in "fM"
        assert np.array_equal(cells, other.static.columns[name], equal_nan=same), name
        assert np.array_equal(one.static.state(name), other.static.state(name)), name
