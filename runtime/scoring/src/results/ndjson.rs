//! Results as JSON objects, one a line: outputs are nested as their shapes say.

use super::{
    ERROR, Line, ROW,
    outputs::{NOT_FINITE, RowOutput, write_json},
};
use crate::{plan::Kept, rows::RowError};

pub(super) fn write(
    line: &Line<'_>,
    outcome: Result<&[RowOutput<'_>], &RowError>,
    text: &mut Vec<u8>,
) -> Result<(), String> {
    text.extend_from_slice(format!("{{\"{ROW}\":{}", line.place.row).as_bytes());
    for (column, kept) in line.plan.keep.iter().zip(line.kept) {
        key(column, text);
        match kept {
            Kept::Null => text.extend_from_slice(b"null"),
            Kept::Text(value) => string(value, text),
            Kept::Json(value) => text.extend_from_slice(value.as_bytes()),
            Kept::NotFinite(_) if outcome.is_err() => text.extend_from_slice(b"null"),
            Kept::NotFinite(_) => return Err(format!("has in column {column:?} {NOT_FINITE}")),
        }
    }
    match outcome {
        Ok(outputs) => {
            for (spec, output) in line.plan.outputs.iter().zip(outputs) {
                key(&spec.name, text);
                write_json(output, text)
                    .map_err(|reason| format!("gave output {:?} {reason}", spec.name))?;
            }
        }
        Err(error) => {
            key(ERROR, text);
            string(&error.to_string(), text);
        }
    }
    text.extend_from_slice(b"}\n");
    Ok(())
}

fn key(name: &str, text: &mut Vec<u8>) {
    text.push(b',');
    string(name, text);
    text.push(b':');
}

fn string(value: &str, text: &mut Vec<u8>) {
    text.extend_from_slice(serde_json::to_string(value).unwrap_or_default().as_bytes());
}
