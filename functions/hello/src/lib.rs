//! Answers every request with "hello": the least that an HTTP function can do.

use quern_sdk::{Error, Request, Response};

quern_sdk::http!(hello);

fn hello(_request: Request) -> Result<Response, Error> {
    Ok(Response::text("hello\n"))
}
