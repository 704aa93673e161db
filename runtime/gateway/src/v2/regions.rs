//! The shared memory extensions: what is registered, and registering it. Which objects a client may
//! register, and what is done with them, is decided elsewhere; the memory of devices is refused.

use http::{Request, Response};
use serde_json::{Value, json};

use super::{
    fields::{DecodeError, MISSING, document, once, string, text, unknown, unsigned},
    receive::receive_control,
};
use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    route::Memory,
    shared_memory::{RegionError, Registration},
};

/// `GET /v2/{system,cuda}sharedmemory[/region/{region}]/status`
pub(crate) fn region_status(
    gateway: &Gateway,
    memory: Memory,
    region: Option<&str>,
) -> Result<Reply, Failure> {
    if memory == Memory::Cuda {
        no_cuda_region(region.unwrap_or_default())?;
        return Ok(body::json(&json!([])));
    }
    let describe = |region: Registration| {
        let Registration { name, key, offset, byte_size } = region;
        json!({ "name": name, "key": key, "offset": offset, "byte_size": byte_size })
    };
    let regions = gateway.regions.status(region)?;
    Ok(body::json(&Value::Array(regions.into_iter().map(describe).collect())))
}

/// Refuses a region of a device's memory by its name; none is named by an empty one.
pub(crate) fn no_cuda_region(region: &str) -> Result<(), RegionError> {
    if region.is_empty() {
        return Ok(());
    }
    Err(RegionError::absent(region))
}

/// `POST /v2/{system,cuda}sharedmemory/region/{region}/register`
pub(crate) async fn register_region(
    gateway: &Gateway,
    memory: Memory,
    name: String,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    match memory {
        Memory::Cuda => return Err(RegionError::Cuda.into()),
        Memory::System if !gateway.regions.are_allowed() => {
            return Err(RegionError::NotAllowed.into());
        }
        Memory::System => {}
    }
    let body = receive_control(gateway, request).await?;
    gateway.regions.register(read(name, body.as_ref())?)?;
    Ok(Response::new(ReplyBody::empty()))
}

/// `POST /v2/{system,cuda}sharedmemory[/region/{region}]/unregister`: what is not registered
/// afterwards may not have been before.
pub(crate) fn unregister_regions(gateway: &Gateway, memory: Memory, region: Option<&str>) -> Reply {
    if memory == Memory::System {
        gateway.regions.unregister(region);
    }
    Response::new(ReplyBody::empty())
}

fn read(name: String, body: &[u8]) -> Result<Registration, DecodeError> {
    let (mut key, mut offset, mut byte_size) = (None, None, None);
    document(text(body)?, |cursor, field| match field {
        "key" => once(&mut key, || Ok(string(cursor)?.into_owned())),
        "offset" => once(&mut offset, || unsigned(cursor)),
        "byte_size" => once(&mut byte_size, || unsigned(cursor)),
        _ => Err(unknown("key, offset and byte_size")),
    })?;
    let missing = |field| DecodeError::field(field, MISSING);
    Ok(Registration {
        name,
        key: key.ok_or_else(|| missing("key"))?,
        offset: offset.unwrap_or_default(),
        byte_size: byte_size.ok_or_else(|| missing("byte_size"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_is_read_with_or_without_an_offset() {
        for (body, offset) in [
            (r#"{"key": "/a", "byte_size": 8}"#, 0),
            (r#"{"key": "/a", "offset": 64, "byte_size": 8}"#, 64),
        ] {
            let expected =
                Registration { name: "r".into(), key: "/a".into(), offset, byte_size: 8 };
            assert_eq!(read("r".into(), body.as_bytes()), Ok(expected));
        }
        let not_negative = "expected an integer that is not negative, found";
        for (body, message) in [
            ("{}", "key: is missing".into()),
            (r#"{"key": "/a"}"#, "byte_size: is missing".into()),
            (r#"{"key": 7}"#, "key: expected a string, found 7".into()),
            (r#"{"key": "/a", "byte_size": -8}"#, format!("byte_size: {not_negative} -8")),
            (
                r#"{"offset": 18446744073709551616}"#,
                format!("offset: {not_negative} 18446744073709551616"),
            ),
            (r#"{"key": "/a", "key": "/a"}"#, "key: is given more than once".into()),
            (
                r#"{"size": 8}"#,
                "size: is not a field of the protocol, which has key, offset and byte_size".into(),
            ),
            ("", "body is not JSON: byte 0: expected an object, found the end of the body".into()),
        ] {
            let error = read("r".into(), body.as_bytes()).expect_err(body);
            assert_eq!(error.to_string(), message);
        }
    }
}
