//! What the guest library computes of gradients, held against what they must be. What is done is
//! the path; answers are numbers by name, or the library's errors.

mod cases;
mod differences;
mod faults;
mod graphs;
mod halves;
mod optimizers;

use quern_sdk::{Error, Request, Response};

quern_sdk::http!(drive);

fn drive(request: Request) -> Result<Response, Error> {
    let path = request.path();
    match path.rsplit('/').next().unwrap_or_default() {
        "differences" => Response::json(&differences::largest()?),
        "optimizers" => Response::json(&optimizers::largest()?),
        "faults" => Response::json(&faults::messages()?),
        "halves" => Response::json(&halves::largest()?),
        "graphs" => Response::json(&graphs::leftovers()?),
        "weights" => Response::json(&graphs::weights()?),
        _ => Ok(Response::new(404)),
    }
}
