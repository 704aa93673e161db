//! The columns of a file: which of them are values, or lists of values, and what lies at which level
//! of them. Never looks at a value.

use parquet::{
    basic::{ConvertedType, LogicalType, Repetition},
    schema::types::{BasicTypeInfo, SchemaDescriptor, Type},
};

use crate::kind::Kind;

/// Deepest nesting of lists; no tensor has more dimensions that anybody uses.
const DEEPEST: usize = 16;

/// A column whose values can be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Leaf {
    /// Its place among the leaves of the schema.
    pub(crate) place: usize,
    /// Of each list around the values, from the outermost: the definition level from which on it has
    /// an element. One level below it is empty, and further below it is null.
    pub(crate) lists: Vec<i16>,
    /// The definition level of a value that is there.
    pub(crate) present: i16,
    /// What the values are.
    pub(crate) kind: Kind,
}

/// A column of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The error says why it can't be read: `is …`.
    pub(crate) leaf: Result<Leaf, String>,
}

/// The columns of a file, in order.
pub(crate) fn columns(schema: &SchemaDescriptor) -> Vec<Column> {
    let fields = schema.root_schema().get_fields();
    let mut first = vec![None; fields.len()];
    for leaf in (0..schema.num_columns()).rev() {
        first[schema.get_column_root_idx(leaf)] = Some(leaf);
    }
    let column = |(field, place): (&std::sync::Arc<Type>, Option<usize>)| {
        let leaf = match place {
            Some(place) => leaf(field, place).and_then(|leaf| {
                let levels = schema.column(place);
                let depth = i16::try_from(leaf.lists.len());
                let agree =
                    (leaf.present, depth) == (levels.max_def_level(), Ok(levels.max_rep_level()));
                agree.then_some(leaf).ok_or_else(|| "is described in contradictions".into())
            }),
            None => Err("is a struct without fields, which is not read".into()),
        };
        Column { name: field.name().to_owned(), leaf }
    };
    fields.iter().zip(first).map(column).collect()
}

/// What a top-level field is, whose first leaf is at this place.
fn leaf(field: &Type, place: usize) -> Result<Leaf, String> {
    let (mut lists, mut level, mut node) = (Vec::new(), 0i16, field);
    loop {
        let info = node.get_basic_info();
        level = level.saturating_add(level_of(info));
        let repeated = is_repeated(info);
        if repeated {
            lists.push(level);
        }
        if lists.len() > DEEPEST {
            return Err(format!("is nested deeper than {DEEPEST}"));
        }
        let children = match node {
            Type::PrimitiveType { .. } => {
                let kind = Kind::of(node)?;
                return Ok(Leaf { place, lists, present: level, kind });
            }
            Type::GroupType { fields, .. } => fields,
        };
        if !is_list(info) {
            return Err(match is_map(info) {
                true => "is a map, which is not read".into(),
                false => "is a struct, which is not read".into(),
            });
        }
        let [element] = &children[..] else {
            return Err("is a list with several fields, which is not read".into());
        };
        if !is_repeated(element.get_basic_info()) || repeated {
            return Err("is a list that repeats nothing, or twice".into());
        }
        node = match &**element {
            Type::PrimitiveType { .. } => element,
            // The group that repeats has the element as its only field.
            Type::GroupType { fields, .. } => {
                level = level.saturating_add(level_of(element.get_basic_info()));
                lists.push(level);
                match &fields[..] {
                    [inner] if !is_repeated(inner.get_basic_info()) => inner,
                    _ => return Err("is a list of structs, which is not read".into()),
                }
            }
        };
    }
}

fn is_repeated(info: &BasicTypeInfo) -> bool {
    info.has_repetition() && info.repetition() == Repetition::REPEATED
}

/// How much a field adds to the definition level.
fn level_of(info: &BasicTypeInfo) -> i16 {
    let required = info.has_repetition() && info.repetition() == Repetition::REQUIRED;
    i16::from(!required)
}

fn is_list(info: &BasicTypeInfo) -> bool {
    matches!(info.logical_type_ref(), Some(LogicalType::List))
        || info.converted_type() == ConvertedType::LIST
}

fn is_map(info: &BasicTypeInfo) -> bool {
    matches!(info.logical_type_ref(), Some(LogicalType::Map))
        || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn found(fields: &str) -> Vec<Column> {
        let schema = parse_message_type(&format!("message m {{ {fields} }}")).expect("a schema");
        columns(&SchemaDescriptor::new(Arc::new(schema)))
    }

    #[test]
    fn values_and_lists_of_values_are_found_with_their_levels() {
        for (field, lists, present) in [
            ("required float x;", &[][..], 0),
            ("optional float x;", &[], 1),
            ("repeated float x;", &[1], 1),
            (
                "required group x (LIST) { repeated group list { required float element; } }",
                &[1],
                1,
            ),
            (
                "optional group x (LIST) { repeated group list { optional float element; } }",
                &[2],
                3,
            ),
            ("optional group x (LIST) { repeated float element; }", &[2], 2),
            (
                "optional group x (LIST) { repeated group list { optional group element (LIST) { \
                 repeated group list { optional float element; } } } }",
                &[2, 4],
                5,
            ),
        ] {
            let columns = found(&format!("required int32 before; {field} required int32 after;"));
            let leaf = columns[1].leaf.as_ref().expect(field);
            let expected = (1, lists, present, &Kind::Single);
            assert_eq!(
                (leaf.place, &leaf.lists[..], leaf.present, &leaf.kind),
                expected,
                "{field}"
            );
            assert_eq!(columns[2].leaf.as_ref().map(|leaf| leaf.place), Ok(2));
        }
    }

    #[test]
    fn other_columns_say_what_they_are() {
        for (field, expected) in [
            ("required group x { required float a; }", "is a struct, which is not read"),
            (
                "required group x (MAP) { repeated group key_value { required int32 key; optional int32 value; } }",
                "is a map, which is not read",
            ),
            (
                "required group x (LIST) { repeated group list { required float a; required float b; } }",
                "is a list of structs, which is not read",
            ),
            (
                "required group x (LIST) { required group list { required float a; } }",
                "is a list that repeats nothing, or twice",
            ),
            (
                "required group x (LIST) { repeated group list { required group element { required float a; } } }",
                "is a struct, which is not read",
            ),
            (
                "required group x (LIST) { repeated float a; repeated float b; }",
                "is a list with several fields, which is not read",
            ),
            (
                "required fixed_len_byte_array(12) x (INTERVAL);",
                "is of the type INTERVAL, which is not read",
            ),
        ] {
            let columns = found(&format!("{field} required int32 after;"));
            assert_eq!(columns[0].leaf, Err(expected.to_owned()), "{field}");
            assert!(columns[1].leaf.is_ok());
        }
    }
}
