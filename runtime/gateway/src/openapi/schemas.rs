//! The schemas of a document: made of types, referred to by name, each of which stands in it once.

use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use super::operation::SchemaOf;

/// Where a document has its schemas.
const PLACE: &str = "/components/schemas";

/// The schemas of what is received and of what is sent, which differ where fields may be left out.
pub(super) struct Schemas {
    received: SchemaGenerator,
    sent: SchemaGenerator,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let generator = |contract| {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = PLACE.into();
                settings.meta_schema = None;
                settings.contract = contract;
            });
            settings.into_generator()
        };
        Self { received: generator(Contract::Deserialize), sent: generator(Contract::Serialize) }
    }

    /// The schema of what a client sends.
    pub(super) fn received(&mut self, of: SchemaOf) -> Value {
        of(&mut self.received).to_value()
    }

    /// The schema of what a client is sent.
    pub(super) fn sent(&mut self, of: SchemaOf) -> Value {
        of(&mut self.sent).to_value()
    }

    /// The fields of a struct that a client sends: name, schema, and whether it must be there.
    pub(super) fn fields(&mut self, of: SchemaOf) -> Vec<(String, Value, bool)> {
        let schema = of(&mut self.received).to_value();
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        // It is no schema of the document's own: nothing else refers to it.
        let named = name.and_then(|name| self.received.definitions_mut().remove(name));
        let mut schema = named.unwrap_or(schema);
        let required = schema["required"].take();
        let Value::Object(properties) = schema["properties"].take() else { return Vec::new() };
        let is_required = |name: &str| {
            required.as_array().is_some_and(|names| names.iter().any(|other| other == name))
        };
        let fields = properties.into_iter().map(|(name, schema)| {
            let is_required = is_required(&name);
            (name, schema, is_required)
        });
        fields.collect()
    }

    /// All that have a name. Where one is received and sent in two forms, the first is an error of
    /// whoever named them: the test of the document finds it.
    pub(super) fn into_definitions(mut self) -> Result<Map<String, Value>, String> {
        let mut all = self.sent.take_definitions(true);
        for (name, schema) in self.received.take_definitions(true) {
            match all.get(&name) {
                Some(other) if *other != schema => return Err(name),
                Some(_) => {}
                None => drop(all.insert(name, schema)),
            }
        }
        Ok(all)
    }
}

/// Bounds integers by what their formats hold, wherever they stand in a document.
pub(super) fn bound_integers(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let (format, most) = match object.get("format").and_then(Value::as_str) {
                Some("uint8") => ("uint8", u64::from(u8::MAX)),
                Some("uint16") => ("uint16", u64::from(u16::MAX)),
                Some("uint32") => ("uint32", u64::from(u32::MAX)),
                // What counts things on this machine is `uint`, which no list of formats has.
                Some("uint64" | "uint") => ("uint64", u64::MAX),
                _ => return object.values_mut().for_each(bound_integers),
            };
            object.insert("format".to_owned(), json!(format));
            object.entry("maximum").or_insert(json!(most));
        }
        Value::Array(values) => values.iter_mut().for_each(bound_integers),
        _ => {}
    }
}
