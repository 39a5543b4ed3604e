"""The tables of the OMOP Common Data Model 5.4: fields in order, types, and which must be there.

OHDSI, OMOP CDM v5.4 field specification (ohdsi.github.io/CommonDataModel/cdm54.html). A field is
named with its type after a colon and `!` where it may not be null. Without a type, the end of its
name says it: `_date` and `_datetime`, `_source_value` is a text of 50 characters, anything else an
integer. A `float` is a double: the fixed point that some databases take NUMERIC for rounds values
to three decimals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

__all__ = ["TABLES", "Field", "created", "fields"]

_EVENTS = "provider_id visit_occurrence_id visit_detail_id"
_TABLES = f"""
person: person_id! gender_concept_id! year_of_birth! month_of_birth day_of_birth birth_datetime
  race_concept_id! ethnicity_concept_id! location_id provider_id care_site_id person_source_value
  gender_source_value gender_source_concept_id race_source_value race_source_concept_id
  ethnicity_source_value ethnicity_source_concept_id
observation_period: observation_period_id! person_id! observation_period_start_date!
  observation_period_end_date! period_type_concept_id!
visit_occurrence: visit_occurrence_id! person_id! visit_concept_id! visit_start_date!
  visit_start_datetime visit_end_date! visit_end_datetime visit_type_concept_id! provider_id
  care_site_id visit_source_value visit_source_concept_id admitted_from_concept_id
  admitted_from_source_value discharged_to_concept_id discharged_to_source_value
  preceding_visit_occurrence_id
visit_detail: visit_detail_id! person_id! visit_detail_concept_id! visit_detail_start_date!
  visit_detail_start_datetime visit_detail_end_date! visit_detail_end_datetime
  visit_detail_type_concept_id! provider_id care_site_id visit_detail_source_value
  visit_detail_source_concept_id admitted_from_concept_id admitted_from_source_value
  discharged_to_source_value discharged_to_concept_id preceding_visit_detail_id
  parent_visit_detail_id visit_occurrence_id!
condition_occurrence: condition_occurrence_id! person_id! condition_concept_id!
  condition_start_date! condition_start_datetime condition_end_date condition_end_datetime
  condition_type_concept_id! condition_status_concept_id stop_reason:varchar(20) {_EVENTS}
  condition_source_value condition_source_concept_id condition_status_source_value
drug_exposure: drug_exposure_id! person_id! drug_concept_id! drug_exposure_start_date!
  drug_exposure_start_datetime drug_exposure_end_date! drug_exposure_end_datetime
  verbatim_end_date drug_type_concept_id! stop_reason:varchar(20) refills quantity:float
  days_supply sig:text route_concept_id lot_number:varchar(50) {_EVENTS} drug_source_value
  drug_source_concept_id route_source_value dose_unit_source_value
procedure_occurrence: procedure_occurrence_id! person_id! procedure_concept_id! procedure_date!
  procedure_datetime procedure_end_date procedure_end_datetime procedure_type_concept_id!
  modifier_concept_id quantity {_EVENTS} procedure_source_value procedure_source_concept_id
  modifier_source_value
device_exposure: device_exposure_id! person_id! device_concept_id! device_exposure_start_date!
  device_exposure_start_datetime device_exposure_end_date device_exposure_end_datetime
  device_type_concept_id! unique_device_id:varchar(255) production_id:varchar(255) quantity
  {_EVENTS} device_source_value device_source_concept_id unit_concept_id unit_source_value
  unit_source_concept_id
measurement: measurement_id! person_id! measurement_concept_id! measurement_date!
  measurement_datetime measurement_time:varchar(10) measurement_type_concept_id!
  operator_concept_id value_as_number:float value_as_concept_id unit_concept_id range_low:float
  range_high:float {_EVENTS} measurement_source_value measurement_source_concept_id
  unit_source_value unit_source_concept_id value_source_value measurement_event_id
  meas_event_field_concept_id
observation: observation_id! person_id! observation_concept_id! observation_date!
  observation_datetime observation_type_concept_id! value_as_number:float
  value_as_string:varchar(60) value_as_concept_id qualifier_concept_id unit_concept_id {_EVENTS}
  observation_source_value observation_source_concept_id unit_source_value
  qualifier_source_value value_source_value observation_event_id obs_event_field_concept_id
death: person_id! death_date! death_datetime death_type_concept_id cause_concept_id
  cause_source_value cause_source_concept_id
note: note_id! person_id! note_date! note_datetime note_type_concept_id! note_class_concept_id!
  note_title:varchar(250) note_text:text! encoding_concept_id! language_concept_id! {_EVENTS}
  note_source_value note_event_id note_event_field_concept_id
note_nlp: note_nlp_id! note_id! section_concept_id snippet:varchar(250) offset:varchar(50)
  lexical_variant:varchar(250)! note_nlp_concept_id note_nlp_source_concept_id
  nlp_system:varchar(250) nlp_date! nlp_datetime term_exists:varchar(1) term_temporal:varchar(50)
  term_modifiers:varchar(2000)
specimen: specimen_id! person_id! specimen_concept_id! specimen_type_concept_id! specimen_date!
  specimen_datetime quantity:float unit_concept_id anatomic_site_concept_id
  disease_status_concept_id specimen_source_id:varchar(50) specimen_source_value
  unit_source_value anatomic_site_source_value disease_status_source_value
fact_relationship: domain_concept_id_1! fact_id_1! domain_concept_id_2! fact_id_2!
  relationship_concept_id!
location: location_id! address_1:varchar(50) address_2:varchar(50) city:varchar(50)
  state:varchar(2) zip:varchar(9) county:varchar(20) location_source_value country_concept_id
  country_source_value:varchar(80) latitude:float longitude:float
care_site: care_site_id! care_site_name:varchar(255) place_of_service_concept_id location_id
  care_site_source_value place_of_service_source_value
provider: provider_id! provider_name:varchar(255) npi:varchar(20) dea:varchar(20)
  specialty_concept_id care_site_id year_of_birth gender_concept_id provider_source_value
  specialty_source_value specialty_source_concept_id gender_source_value gender_source_concept_id
payer_plan_period: payer_plan_period_id! person_id! payer_plan_period_start_date!
  payer_plan_period_end_date! payer_concept_id payer_source_value payer_source_concept_id
  plan_concept_id plan_source_value plan_source_concept_id sponsor_concept_id
  sponsor_source_value sponsor_source_concept_id family_source_value stop_reason_concept_id
  stop_reason_source_value stop_reason_source_concept_id
cost: cost_id! cost_event_id! cost_domain_id:varchar(20)! cost_type_concept_id!
  currency_concept_id total_charge:float total_cost:float total_paid:float paid_by_payer:float
  paid_by_patient:float paid_patient_copay:float paid_patient_coinsurance:float
  paid_patient_deductible:float paid_by_primary:float paid_ingredient_cost:float
  paid_dispensing_fee:float payer_plan_period_id amount_allowed:float revenue_code_concept_id
  revenue_code_source_value drg_concept_id drg_source_value:varchar(3)
drug_era: drug_era_id! person_id! drug_concept_id! drug_era_start_date! drug_era_end_date!
  drug_exposure_count gap_days
dose_era: dose_era_id! person_id! drug_concept_id! unit_concept_id! dose_value:float!
  dose_era_start_date! dose_era_end_date!
condition_era: condition_era_id! person_id! condition_concept_id! condition_era_start_date!
  condition_era_end_date! condition_occurrence_count
episode: episode_id! person_id! episode_concept_id! episode_start_date! episode_start_datetime
  episode_end_date episode_end_datetime episode_parent_id episode_number
  episode_object_concept_id! episode_type_concept_id! episode_source_value
  episode_source_concept_id
episode_event: episode_id! event_id! episode_event_field_concept_id!
metadata: metadata_id! metadata_concept_id! metadata_type_concept_id! name:varchar(250)!
  value_as_string:varchar(250) value_as_concept_id value_as_number:float metadata_date
  metadata_datetime
cdm_source: cdm_source_name:varchar(255)! cdm_source_abbreviation:varchar(25)!
  cdm_holder:varchar(255)! source_description:text source_documentation_reference:varchar(255)
  cdm_etl_reference:varchar(255) source_release_date! cdm_release_date! cdm_version:varchar(10)
  cdm_version_concept_id! vocabulary_version:varchar(20)!
concept: concept_id! concept_name:varchar(255)! domain_id:varchar(20)! vocabulary_id:varchar(20)!
  concept_class_id:varchar(20)! standard_concept:varchar(1) concept_code:varchar(50)!
  valid_start_date! valid_end_date! invalid_reason:varchar(1)
vocabulary: vocabulary_id:varchar(20)! vocabulary_name:varchar(255)!
  vocabulary_reference:varchar(255) vocabulary_version:varchar(255) vocabulary_concept_id!
domain: domain_id:varchar(20)! domain_name:varchar(255)! domain_concept_id!
concept_class: concept_class_id:varchar(20)! concept_class_name:varchar(255)!
  concept_class_concept_id!
concept_relationship: concept_id_1! concept_id_2! relationship_id:varchar(20)! valid_start_date!
  valid_end_date! invalid_reason:varchar(1)
relationship: relationship_id:varchar(20)! relationship_name:varchar(255)!
  is_hierarchical:varchar(1)! defines_ancestry:varchar(1)! reverse_relationship_id:varchar(20)!
  relationship_concept_id!
concept_synonym: concept_id! concept_synonym_name:varchar(1000)! language_concept_id!
concept_ancestor: ancestor_concept_id! descendant_concept_id! min_levels_of_separation!
  max_levels_of_separation!
source_to_concept_map: source_code:varchar(50)! source_concept_id! source_vocabulary_id:varchar(20)!
  source_code_description:varchar(255) target_concept_id! target_vocabulary_id:varchar(20)!
  valid_start_date! valid_end_date! invalid_reason:varchar(1)
drug_strength: drug_concept_id! ingredient_concept_id! amount_value:float amount_unit_concept_id
  numerator_value:float numerator_unit_concept_id denominator_value:float
  denominator_unit_concept_id box_size valid_start_date! valid_end_date!
  invalid_reason:varchar(1)
cohort: cohort_definition_id! subject_id! cohort_start_date! cohort_end_date!
cohort_definition: cohort_definition_id! cohort_definition_name:varchar(255)!
  cohort_definition_description:text definition_type_concept_id! cohort_definition_syntax:text
  subject_concept_id! cohort_initiation_date
"""
_TYPES = {"float": "DOUBLE PRECISION", "text": "TEXT"}


@dataclass(frozen=True)
class Field:
    """A field of a table."""

    name: str
    type: str  # in SQL that DuckDB, SQLite and PostgreSQL share
    required: bool


def _field(entry: str) -> Field:
    name, _, kind = entry.removesuffix("!").partition(":")
    if not kind:
        ends = {"_date": "DATE", "_datetime": "TIMESTAMP", "_source_value": "VARCHAR(50)"}
        kind = next((kind for end, kind in ends.items() if name.endswith(end)), "INTEGER")
    return Field(name, _TYPES.get(kind, kind.upper()), entry.endswith("!"))


@cache
def _all() -> dict[str, tuple[Field, ...]]:
    tables: dict[str, tuple[Field, ...]] = {}
    for chunk in _TABLES.replace("\n  ", " ").strip().split("\n"):
        table, _, entries = chunk.partition(": ")
        tables[table] = tuple(_field(entry) for entry in entries.split())
    return tables


TABLES: tuple[str, ...] = tuple(_all())


def fields(table: str, *, wide: bool = False) -> tuple[Field, ...]:
    """Return the fields of a table in their order; `wide` gives persons numbers of 64 bits."""
    if not wide:
        return _all()[table]
    return tuple(
        replace(field, type="BIGINT") if field.name == "person_id" else field
        for field in _all()[table]
    )


def created(table: str, fields: Sequence[Field]) -> str:
    """Return the statement that creates a table."""
    lines = ", ".join(
        f'"{field.name}" {field.type}{" NOT NULL" if field.required else ""}' for field in fields
    )
    return f"CREATE TABLE {table} ({lines})"
