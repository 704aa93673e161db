//! The export of functions of kind "http".

mod events;
mod request;
mod response;
mod serve;

pub use events::{Event, Events};
pub use request::{Body, Request};
pub use response::Response;
#[doc(hidden)]
pub use serve::answer;

/// Makes `fn(Request) -> Result<Response, Error>` the function of this component, of kind "http".
///
/// An error becomes a JSON response `{"error": "…"}` with the status of its
/// [kind](crate::ErrorKind). Messages of kind [`Internal`](crate::ErrorKind::Internal) and
/// [`NotFound`](crate::ErrorKind::NotFound) go to standard error, which `quern logs` shows, and not
/// to the client.
///
/// ```
/// use quern_sdk::{Error, Request, Response};
///
/// quern_sdk::http!(greet);
///
/// fn greet(request: Request) -> Result<Response, Error> {
///     let name = request.query("name").unwrap_or("world".into());
///     Ok(Response::text(format!("hello, {name}\n")))
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! http {
    ($handler:path) => {
        const _: () = {
            struct Function;

            impl $crate::wasi::exports::http::incoming_handler::Guest for Function {
                fn handle(
                    request: $crate::wasi::http::types::IncomingRequest,
                    response: $crate::wasi::http::types::ResponseOutparam,
                ) {
                    $crate::http::answer(request, response, $handler);
                }
            }

    $crate::wasi::http::proxy::export!(Function with_types_in $crate::wasi);
        };
    };
}
