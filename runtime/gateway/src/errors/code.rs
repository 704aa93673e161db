//! The codes of errors and their statuses, as in the table of `docs/api.md`; a test compares them.

use http::StatusCode;

/// Makes the enum and its table from one list, so that no code can lack its status.
macro_rules! codes {
    ($($name:ident $text:literal $status:ident,)*) => {
        /// What went wrong, in a word that programs can rely on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Code { $($name,)* }

        impl Code {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
        }
    };
}

codes! {
    Unauthenticated "unauthenticated" UNAUTHORIZED,
    Forbidden "forbidden" FORBIDDEN,
    InvalidName "invalid-name" BAD_REQUEST,
    InvalidManifest "invalid-manifest" BAD_REQUEST,
    InvalidMultipart "invalid-multipart" BAD_REQUEST,
    InvalidJson "invalid-json" BAD_REQUEST,
    InvalidRequest "invalid-request" BAD_REQUEST,
    Unsupported "unsupported" BAD_REQUEST,
    NotAComponent "not-a-component" UNPROCESSABLE_ENTITY,
    InvalidComponent "invalid-component" UNPROCESSABLE_ENTITY,
    UnknownImport "unknown-import" UNPROCESSABLE_ENTITY,
    MissingGrant "missing-grant" UNPROCESSABLE_ENTITY,
    InvalidModel "invalid-model" UNPROCESSABLE_ENTITY,
    NameTaken "name-taken" CONFLICT,
    TooManyTokens "too-many-tokens" CONFLICT,
    TooManyTenants "too-many-tenants" CONFLICT,
    TooManySchedules "too-many-schedules" CONFLICT,
    TooManyWebhooks "too-many-webhooks" CONFLICT,
    WrongState "wrong-state" CONFLICT,
    NoResult "no-result" CONFLICT,
    KeyReused "idempotency-key-reused" UNPROCESSABLE_ENTITY,
    TooManyBatches "too-many-batches" CONFLICT,
    NotEnded "not-ended" CONFLICT,
    StorageFull "storage-full" INSUFFICIENT_STORAGE,
    StorageReadOnly "storage-read-only" SERVICE_UNAVAILABLE,
    NoPreviousVersion "no-previous-version" CONFLICT,
    TrafficConflict "traffic-conflict" CONFLICT,
    SettingTaken "setting-taken" CONFLICT,
    TooManySettings "too-many-settings" BAD_REQUEST,
    UploadTooLarge "upload-too-large" PAYLOAD_TOO_LARGE,
    NotFound "not-found" NOT_FOUND,
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED,
    WrongKind "wrong-kind" CONFLICT,
    SignatureMismatch "signature-mismatch" BAD_REQUEST,
    RequestTooLarge "request-too-large" PAYLOAD_TOO_LARGE,
    RequestTimeout "request-timeout" REQUEST_TIMEOUT,
    Busy "busy" TOO_MANY_REQUESTS,
    RateLimited "rate-limited" TOO_MANY_REQUESTS,
    DeadlineExceeded "deadline-exceeded" GATEWAY_TIMEOUT,
    Timeout "timeout" GATEWAY_TIMEOUT,
    CpuTimeExceeded "cpu-time-exceeded" GATEWAY_TIMEOUT,
    OutOfMemory "out-of-memory" INSUFFICIENT_STORAGE,
    TooManyTableElements "too-many-table-elements" INSUFFICIENT_STORAGE,
    TooManyInstances "too-many-instances" INSUFFICIENT_STORAGE,
    TooManyHandles "too-many-handles" INSUFFICIENT_STORAGE,
    HostCallTooLarge "host-call-too-large" INSUFFICIENT_STORAGE,
    ResponseTooLarge "response-too-large" BAD_GATEWAY,
    Trap "trap" INTERNAL_SERVER_ERROR,
    NoResponse "no-response" BAD_GATEWAY,
    GuestError "guest-error" INTERNAL_SERVER_ERROR,
    GuestRejectedInput "guest-rejected-input" BAD_REQUEST,
    InvalidOutput "invalid-output" BAD_GATEWAY,
    EngineAbsent "engine-absent" SERVICE_UNAVAILABLE,
    DeviceError "device-error" INTERNAL_SERVER_ERROR,
    DeviceLost "device-lost" SERVICE_UNAVAILABLE,
    TooLate "too-late" SERVICE_UNAVAILABLE,
    Unavailable "unavailable" SERVICE_UNAVAILABLE,
    NotLoaded "not-loaded" SERVICE_UNAVAILABLE,
    SecretsLocked "secrets-locked" SERVICE_UNAVAILABLE,
    ShuttingDown "shutting-down" SERVICE_UNAVAILABLE,
    Internal "internal" INTERNAL_SERVER_ERROR,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documented_codes_are_the_ones_that_exist() {
        let page = include_str!("../../../../docs/api.md");
        let (_, errors) = page.split_once("\n## Errors\n").expect("the section on errors");
        let documented: BTreeSet<(&str, u16)> = errors
            .lines()
            .filter_map(|line| {
                let mut cells = line.split('|').map(str::trim).skip(1);
                let code = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
                Some((code, cells.next()?.parse().expect("a status")))
            })
            .collect();
        let existing: BTreeSet<(&str, u16)> =
            Code::ALL.iter().map(|code| (code.as_str(), code.status().as_u16())).collect();
        assert_eq!(existing, documented);
    }
}
