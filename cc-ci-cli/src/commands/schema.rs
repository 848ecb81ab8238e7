//! `cc-ci schema`: what each form of JSON has, made from the types that write it. `docs/schemas` has the same as files.

use cc_ci_core::event::EventLine;
use cc_ci_core::recipe::rules;
use cc_ci_core::run::RunRecord;
use clap::ValueEnum as _;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

#[cfg(feature = "demo")]
use super::demo::Claims;
use super::{audit, config, doctor, janitor, locks, past, status, warm};
use crate::args::Form;
use crate::terminal::{Document, ErrorResult, json_text};

/// The JSON Schema of a form.
pub fn of(form: Form) -> Schema {
    let mut schema = match form {
        Form::Run => schema::<RunRecord>(),
        Form::Event => schema::<EventLine<'static>>(),
        Form::Runs => document::<past::Runs<'static>>(),
        Form::Logs => document::<past::Logs<'static>>(),
        Form::Status => document::<status::Status>(),
        Form::Locks => document::<locks::Locks<'static>>(),
        Form::Audit => document::<audit::Audit<'static>>(),
        Form::Janitor => document::<janitor::Findings<'static>>(),
        Form::Warm => document::<warm::Warm<'static>>(),
        Form::Doctor => document::<doctor::Diagnosis<'static>>(),
        Form::RecipeCheck => document::<rules::Report>(),
        Form::Config => document::<config::Settings<'static>>(),
        Form::Error => document::<ErrorResult>(),
        #[cfg(feature = "demo")]
        Form::Demo => document::<Claims<'static>>(),
    };
    let id = format!("cc-ci.{}/v1", name(form));
    if let Some(own) = schema.get_mut("properties").and_then(|properties| properties.get_mut("schema")) {
        *own = json!({ "description": "Says which form this is.", "const": id });
    }
    schema.insert("title".to_owned(), Value::String(id));
    schema
}

/// The same as text.
pub fn text(form: Form) -> String {
    // Maps with names as their keys are all that is in it.
    json_text(&of(form)).unwrap_or_default()
}

/// The name of a form, as `schema` takes it.
pub fn name(form: Form) -> String {
    form.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn document<T: JsonSchema>() -> Schema {
    schema::<Document<T>>()
}

/// The schema of what is written, which has more than what would be read: each field that is always there is required.
fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_schemas_of_the_documentation_are_those_of_the_types() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
        let is_update = std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always");
        for form in Form::value_variants() {
            let (file, text) = (directory.join(name(*form) + ".json"), text(*form));
            if is_update {
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(&file, &text).unwrap();
            }
            let known = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(known == text, "{} is not what `cc-ci schema {}` prints", file.display(), name(*form));
        }
        let files = std::fs::read_dir(&directory).unwrap().count();
        assert_eq!(files, Form::value_variants().len(), "a file of a form that is gone");
    }
}
