//! Results as comma-separated values: a column for each element of an output whose rows have one
//! shape, and one with a list of JSON for others.

use super::{
    ERROR, Line, ROW, columns,
    outputs::{RowOutput, Text, write_json},
    spread,
};
use crate::{
    plan::{Kept, Plan},
    rows::RowError,
};

/// The names of the columns.
pub(super) fn header(plan: &Plan) -> Vec<u8> {
    let mut text = Vec::from(ROW);
    let outputs = plan.outputs.iter().flat_map(|output| columns(plan, output));
    for name in plan.keep.iter().cloned().chain(outputs) {
        field(&name, &mut text);
    }
    field(ERROR, &mut text);
    text.extend_from_slice(b"\r\n");
    text
}

pub(super) fn write(
    line: &Line<'_>,
    outcome: Result<&[RowOutput<'_>], &RowError>,
    text: &mut Vec<u8>,
) -> Result<(), String> {
    text.extend_from_slice(line.place.row.to_string().as_bytes());
    for kept in line.kept {
        match kept {
            Kept::Null => field("", text),
            Kept::Text(value) | Kept::Json(value) => field(value, text),
            Kept::NotFinite(value) => field(not_finite(*value), text),
        }
    }
    let plan = line.plan;
    match outcome {
        Ok(outputs) => {
            for (spec, output) in plan.outputs.iter().zip(outputs) {
                let written = match spread(plan, spec) {
                    Some(count) => elements(output, count, text),
                    None => list(output, text),
                };
                written.map_err(|reason| format!("gave output {:?} {reason}", spec.name))?;
            }
            field("", text);
        }
        Err(error) => {
            let empty: usize = plan.outputs.iter().map(|output| columns(plan, output).len()).sum();
            text.resize(text.len() + empty, b',');
            field(&error.to_string(), text);
        }
    }
    text.extend_from_slice(b"\r\n");
    Ok(())
}

fn elements(output: &RowOutput<'_>, count: u64, text: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut left = count;
    output.each(&mut |element| {
        left = left.checked_sub(1).ok_or("of another shape than its signature has")?;
        match element {
            Text::Plain(value) => field(&value, text),
            Text::Quoted(value) => field(value, text),
            Text::NotFinite(value) => field(not_finite(value), text),
        }
        Ok(())
    })?;
    if left == 0 { Ok(()) } else { Err("of another shape than its signature has") }
}

fn not_finite(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "inf",
        _ => "-inf",
    }
}

fn list(output: &RowOutput<'_>, text: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut json = Vec::new();
    write_json(output, &mut json)?;
    field(&String::from_utf8_lossy(&json), text);
    Ok(())
}

/// A comma, and a field; in quotes where it could be taken for something else.
fn field(value: &str, text: &mut Vec<u8>) {
    text.push(b',');
    if !value.contains([',', '"', '\r', '\n']) && value.trim() == value {
        text.extend_from_slice(value.as_bytes());
        return;
    }
    text.push(b'"');
    text.extend_from_slice(value.replace('"', "\"\"").as_bytes());
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        for (value, expected) in [
            ("a b", ",a b"),
            ("", ","),
            ("a,b", ",\"a,b\""),
            ("say \"hi\"", ",\"say \"\"hi\"\"\""),
            ("two\nlines", ",\"two\nlines\""),
            (" a", ",\" a\""),
        ] {
            let mut text = Vec::new();
            field(value, &mut text);
            assert_eq!(String::from_utf8(text).expect("text"), expected);
        }
    }
}
