//! The way between descriptions and errors of `quern:ml/gpu` and those of the catalogue.

use quern_operators::{Description, Dtype, LaneError, OpenError, SessionError, Shape};

use super::contract::{GuestDescription, GuestDtype, GuestError};

fn dtype_to_guest(dtype: Dtype) -> GuestDtype {
    match dtype {
        Dtype::Bool => GuestDtype::Bool,
        Dtype::Uint8 => GuestDtype::Uint8,
        Dtype::Int32 => GuestDtype::Int32,
        Dtype::Int64 => GuestDtype::Int64,
        Dtype::Fp16 => GuestDtype::Fp16,
        Dtype::Bf16 => GuestDtype::Bf16,
        Dtype::Fp32 => GuestDtype::Fp32,
        Dtype::Fp64 => GuestDtype::Fp64,
    }
}

/// A description of a guest; otherwise what is wrong with it.
pub(super) fn description_to_host(description: &GuestDescription) -> Result<Description, String> {
    let shape = Shape::new(&description.shape).map_err(|error| error.to_string())?;
    Ok(Description::new(description.dtype.into(), shape))
}

/// A description for a guest.
pub(super) fn description_to_guest(description: &Description) -> GuestDescription {
    let dtype = dtype_to_guest(description.dtype);
    GuestDescription { dtype, shape: description.shape.dims().to_vec() }
}

/// What a session refuses, for the guest that asked.
pub(super) fn refusal(error: &SessionError) -> GuestError {
    let text = error.to_string();
    match error {
        SessionError::Operator(_) | SessionError::Length { .. } | SessionError::Bool { .. } => {
            GuestError::Invalid(text)
        }
        SessionError::Budget { .. } | SessionError::Tensors { .. } | SessionError::Work { .. } => {
            GuestError::Exhausted(text)
        }
        // The ids in their texts are nothing that a guest has seen.
        SessionError::Unknown(_) => GuestError::Unknown("there is no such tensor".into()),
        SessionError::Foreign(_) => {
            GuestError::Unknown("an input belongs to another session".into())
        }
        SessionError::Lane(LaneError::Memory { .. }) => GuestError::Overloaded(text),
        SessionError::Lane(LaneError::Index { .. }) => GuestError::Index(text),
        SessionError::Lane(LaneError::Unsupported { .. } | LaneError::Lost { .. }) => {
            GuestError::Unavailable(text)
        }
    }
}

/// Why there is no session, for the guest that asked.
pub(super) fn open_error(error: &OpenError) -> GuestError {
    let text = error.to_string();
    match error {
        OpenError::NoDevice { .. } | OpenError::NoneOfKind { .. } | OpenError::Lost { .. } => {
            GuestError::Unavailable(text)
        }
        OpenError::Budget { .. }
        | OpenError::Busy { .. }
        | OpenError::Sessions { .. }
        | OpenError::TenantSessions { .. } => GuestError::Overloaded(text),
    }
}

#[cfg(test)]
mod tests {
    use quern_operators::{Kernel, TensorId};
    use quern_types::DeviceKind;

    use super::*;

    /// The case of an error, by its name.
    fn case(error: &GuestError) -> &'static str {
        match error {
            GuestError::Invalid(_) => "invalid",
            GuestError::Unknown(_) => "unknown",
            GuestError::Exhausted(_) => "exhausted",
            GuestError::Overloaded(_) => "overloaded",
            GuestError::Index(_) => "index",
            GuestError::Unavailable(_) => "unavailable",
        }
    }

    #[test]
    fn every_refusal_has_its_case() {
        let id = TensorId::new(7, 8);
        let description = Description::new(Dtype::Fp32, Shape::SCALAR);
        let lost = LaneError::Lost { reason: "it fell".into() };
        let unplanned = Kernel::Matmul.plan(&[]).expect_err("no inputs");
        let cases = [
            (SessionError::Operator(unplanned), "invalid"),
            (SessionError::Length { description, expected: 4, actual: 3 }, "invalid"),
            (SessionError::Bool { index: 0, value: 2 }, "invalid"),
            (SessionError::Budget { needed: 3, used: 2, limit: 4 }, "exhausted"),
            (SessionError::Tensors { limit: 1 }, "exhausted"),
            (SessionError::Work { operator: "matmul", work: 2, limit: 1 }, "exhausted"),
            (SessionError::Unknown(id), "unknown"),
            (SessionError::Foreign(id), "unknown"),
            (SessionError::Lane(LaneError::Memory { bytes: 1 }), "overloaded"),
            (
                SessionError::Lane(LaneError::Index { operator: "gather", index: 2, size: 2 }),
                "index",
            ),
            (SessionError::Lane(LaneError::Unsupported { operator: "sort" }), "unavailable"),
            (SessionError::Lane(lost.clone()), "unavailable"),
        ];
        for (error, expected) in cases {
            assert_eq!(case(&refusal(&error)), expected, "{error}");
        }
        let cases = [
            (OpenError::NoDevice { needed: 2, most: 1 }, "unavailable"),
            (OpenError::NoneOfKind { kind: DeviceKind::Cuda }, "unavailable"),
            (OpenError::Lost { device: "cpu:0".into(), error: lost }, "unavailable"),
            (OpenError::Budget { needed: 2, left: 1, limit: 3 }, "overloaded"),
            (OpenError::Busy { needed: 2, left: 1 }, "overloaded"),
            (OpenError::Sessions { limit: 1 }, "overloaded"),
            (OpenError::TenantSessions { limit: 1 }, "overloaded"),
        ];
        for (error, expected) in cases {
            assert_eq!(case(&open_error(&error)), expected, "{error}");
        }
    }

    #[test]
    fn element_types_survive_the_way_there_and_back() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::from(dtype_to_guest(dtype)), dtype);
        }
    }
}
