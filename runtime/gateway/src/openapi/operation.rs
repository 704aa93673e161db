//! One operation of the API as it is described: its path, what it takes, and what it answers.
//! Whoever describes one says nothing of what the edge does for all of them: tokens, names in
//! paths, bodies that don't arrive.

use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::errors::Code;

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema + ?Sized>() -> SchemaOf {
    |generator| generator.subschema_for::<T>()
}

/// What can be asked for with one method at one path.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<PathParameter>,
    pub(super) query: Option<SchemaOf>,
    pub(super) body: Option<Body>,
    pub(super) replies: Vec<Reply>,
    pub(super) codes: Vec<Code>,
}

/// A part of a path that differs.
pub(super) struct PathParameter {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: SchemaOf,
    /// What may stand there.
    pub(super) sample: &'static str,
}

/// The body of a request.
pub(super) struct Body {
    pub(super) is_required: bool,
    /// One for each media type.
    pub(super) contents: Vec<Content>,
}

/// What is in a body.
pub(super) struct Content {
    pub(super) media_type: &'static str,
    pub(super) shape: Shape,
}

/// The shape of a body.
pub(super) enum Shape {
    /// JSON of a type.
    Json(SchemaOf),
    /// JSON of a type on each line.
    JsonLines(SchemaOf),
    /// Whatever the media type says.
    Bytes,
    /// Text.
    Text,
    /// The document of JSON schema or OpenAPI itself.
    Object,
    /// Parts of a form, with whether they must be there.
    Parts(&'static [Part]),
}

/// A part of a form.
pub(super) struct Part {
    /// What it is where it is JSON of a type; none: whatever the media type says.
    pub(super) schema: Option<SchemaOf>,
    pub(super) name: &'static str,
    pub(super) media_type: &'static str,
    pub(super) description: &'static str,
    pub(super) is_required: bool,
}

/// An answer that is no error.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) content: Option<Content>,
}

impl Operation {
    pub(super) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, path, id, summary)
    }

    pub(super) fn put(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::PUT, path, id, summary)
    }

    pub(super) fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::POST, path, id, summary)
    }

    pub(super) fn patch(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::PATCH, path, id, summary)
    }

    pub(super) fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::DELETE, path, id, summary)
    }

    fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let (parameters, replies, codes) = (Vec::new(), Vec::new(), Vec::new());
        Self { id, method, path, summary, parameters, query: None, body: None, replies, codes }
    }

    /// What stands at `{name}` in the path, such as `sample`.
    pub(super) fn at<T: JsonSchema>(
        mut self,
        name: &'static str,
        sample: &'static str,
        description: &'static str,
    ) -> Self {
        let schema = schema_of::<T>();
        self.parameters.push(PathParameter { name, description, schema, sample });
        self
    }

    /// Takes a query of this type; without it, any query is refused.
    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(schema_of::<T>()), ..self }
    }

    /// Takes a body of JSON.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        self.takes_one(true, vec![Content::json::<T>()])
    }

    /// Takes a body of JSON, or none.
    pub(super) fn may_take<T: JsonSchema>(self) -> Self {
        self.takes_one(false, vec![Content::json::<T>()])
    }

    /// Takes one of several bodies.
    pub(super) fn takes_one(self, is_required: bool, contents: Vec<Content>) -> Self {
        Self { body: Some(Body { is_required, contents }), ..self }
    }

    /// Answers JSON.
    pub(super) fn replies<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.replies_with(status, description, Some(Content::json::<T>()))
    }

    /// Answers without a body.
    pub(super) fn replies_nothing(self, status: u16, description: &'static str) -> Self {
        self.replies_with(status, description, None)
    }

    /// Answers something else.
    pub(super) fn replies_with(
        mut self,
        status: u16,
        description: &'static str,
        content: Option<Content>,
    ) -> Self {
        self.replies.push(Reply { status, description, content });
        self
    }

    /// Errors of its own, besides those of every operation that takes what it takes.
    pub(super) fn fails(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Its path with samples in the place of what differs.
    pub(super) fn sample_path(&self) -> String {
        let path = self.path.to_owned();
        let fill = |path: String, parameter: &PathParameter| {
            path.replace(&format!("{{{}}}", parameter.name), parameter.sample)
        };
        self.parameters.iter().fold(path, fill)
    }
}

impl Content {
    pub(super) fn json<T: JsonSchema>() -> Self {
        Self { media_type: "application/json", shape: Shape::Json(schema_of::<T>()) }
    }

    pub(super) fn json_lines<T: JsonSchema>() -> Self {
        Self { media_type: "application/x-ndjson", shape: Shape::JsonLines(schema_of::<T>()) }
    }
}
