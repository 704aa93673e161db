//! The operations of the server's own document: what can be asked for, and a request for each that
//! is as it should be, so that a test can spoil one thing of it.

use serde_json::{Map, Value, json};

use crate::support::Server;

/// The document, and what is in it.
pub(super) struct Description {
    document: Value,
}

/// One operation.
pub(super) struct Operation<'d> {
    pub(super) method: String,
    pub(super) template: &'d str,
    about: &'d Value,
    description: &'d Description,
}

/// A field of a body or a parameter of a query, with a value that is none of its type.
pub(super) struct Spoiled {
    pub(super) name: String,
    pub(super) value: Value,
}

impl Description {
    pub(super) async fn of(server: &Server) -> Self {
        let answer = server.get("/openapi.json").await;
        assert_eq!(answer.status, 200);
        Self { document: answer.json() }
    }

    pub(super) fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        let paths = self.document["paths"].as_object().expect("paths").iter();
        paths.flat_map(move |(template, methods)| {
            methods.as_object().expect("methods").iter().map(move |(method, about)| Operation {
                method: method.to_uppercase(),
                template,
                about,
                description: self,
            })
        })
    }

    /// The schema itself, where one only refers to it.
    fn resolve<'d>(&'d self, schema: &'d Value) -> &'d Value {
        match schema["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').expect("within the document");
                self.resolve(self.document.pointer(pointer).expect(reference))
            }
            None => schema,
        }
    }

    /// Something that fits a schema.
    fn sample(&self, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        if let Some(value) = schema.get("const").or_else(|| schema.get("default")) {
            return value.clone();
        }
        for key in ["enum", "oneOf", "anyOf", "allOf"] {
            if let Some(first) = schema[key].as_array().and_then(|all| all.first()) {
                return if key == "enum" { first.clone() } else { self.sample(first) };
            }
        }
        match types(schema).first().map(String::as_str) {
            Some("string") => match (schema["pattern"].as_str(), schema["format"].as_str()) {
                (Some(pattern), _) if pattern.contains("{16}") => json!("0123456789abcdef"),
                (Some(pattern), _) if pattern.contains("{32}") => {
                    json!("0123456789abcdef0123456789abcdef")
                }
                (_, Some("uuid")) => json!("01936a5e-0000-7000-8000-0123456789ab"),
                (_, Some("date-time")) => json!("2026-01-02T03:04:05Z"),
                (_, Some("period")) => json!("1s"),
                _ => json!("a"),
            },
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            Some("boolean") => json!(false),
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(0);
                (0..least).map(|_| self.sample(&schema["items"])).collect()
            }
            Some("object") => {
                let mut object = Map::new();
                for name in schema["required"].as_array().into_iter().flatten() {
                    let name = name.as_str().expect("a name");
                    object.insert(name.to_owned(), self.sample(&schema["properties"][name]));
                }
                object.into()
            }
            _ => Value::Null,
        }
    }

    /// A value that no schema of these takes: none of its types, and no text of its pattern.
    fn spoil(&self, schema: &Value) -> Option<Value> {
        let mut taken = Vec::new();
        self.gather(schema, &mut taken);
        let free = |kind: &str| !taken.iter().any(|taken| taken == kind);
        if taken.is_empty() {
            return None;
        }
        [("object", json!({"wrong": 1})), ("boolean", json!(true)), ("array", json!([1, 2, 3]))]
            .into_iter()
            .find(|(kind, _)| free(kind))
            .map(|(_, value)| value)
    }

    fn gather(&self, schema: &Value, taken: &mut Vec<String>) {
        let schema = self.resolve(schema);
        taken.extend(types(schema));
        for key in ["oneOf", "anyOf", "allOf"] {
            for one in schema[key].as_array().into_iter().flatten() {
                self.gather(one, taken);
            }
        }
    }
}

fn types(schema: &Value) -> Vec<String> {
    match &schema["type"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

impl Operation<'_> {
    fn parameters<'o>(&'o self, place: &'o str) -> impl Iterator<Item = &'o Value> {
        let all = self.about["parameters"].as_array().into_iter().flatten();
        let all = all.map(|parameter| self.description.resolve(parameter));
        all.filter(move |parameter| parameter["in"] == place)
    }

    /// The path with something valid in every place.
    pub(super) fn path(&self) -> String {
        self.path_but(None)
    }

    /// The names of what differs in the path.
    pub(super) fn places(&self) -> Vec<String> {
        let names = self.parameters("path").map(|parameter| parameter["name"].as_str());
        names.map(|name| name.expect("a name").to_owned()).collect()
    }

    /// The same path, but for one place.
    pub(super) fn path_but(&self, other: Option<(&str, &str)>) -> String {
        self.parameters("path").fold(self.template.to_owned(), |path, parameter| {
            let name = parameter["name"].as_str().expect("a name");
            let sample = self.description.sample(&parameter["schema"]);
            let sample = sample.as_str().map_or_else(|| sample.to_string(), str::to_owned);
            let value = other.filter(|(of, _)| *of == name).map_or(&*sample, |(_, value)| value);
            path.replace(&format!("{{{name}}}"), value)
        })
    }

    /// The parameters of its query, each with a value that it does not take if there is one.
    pub(super) fn query(&self) -> Vec<Spoiled> {
        let spoil = |parameter: &Value| {
            let schema = self.description.resolve(&parameter["schema"]);
            let is_free = types(schema) == ["string"] && schema.get("pattern").is_none();
            let value = if is_free { Value::Null } else { json!("%20wrong") };
            Spoiled { name: parameter["name"].as_str().expect("a name").to_owned(), value }
        };
        self.parameters("query").map(spoil).collect()
    }

    fn body_schema(&self) -> Option<&Value> {
        let content = self.about.pointer("/requestBody/content/application~1json/schema")?;
        Some(self.description.resolve(content))
    }

    /// A body of JSON that it takes, if it takes any.
    pub(super) fn json(&self) -> Option<Map<String, Value>> {
        match self.description.sample(self.body_schema()?) {
            Value::Object(body) => Some(body),
            other => panic!("{} takes {other}", self.template),
        }
    }

    /// Each field of such a body, with a value that it does not take.
    pub(super) fn fields(&self) -> Vec<Spoiled> {
        let properties = self.body_schema().and_then(|schema| schema["properties"].as_object());
        let spoil = |(name, schema): (&String, &Value)| {
            let value = self.description.spoil(schema)?;
            Some(Spoiled { name: name.clone(), value })
        };
        properties.into_iter().flatten().filter_map(spoil).collect()
    }

    pub(super) fn needs_body(&self) -> bool {
        self.about.pointer("/requestBody/required") == Some(&json!(true))
    }

    pub(super) fn takes(&self, media_type: &str) -> bool {
        self.about["requestBody"]["content"].get(media_type).is_some()
    }

    /// The methods that its path takes.
    pub(super) fn methods(&self) -> Vec<String> {
        let paths = &self.description.document["paths"];
        let methods = paths[self.template].as_object().expect("methods");
        methods.keys().map(|method| method.to_uppercase()).collect()
    }
}
