//! Continues a text token by token, as language models do: each token is a call of the model
//! `next-letter`, and an event of its own that the client has before the next one is computed.
//!
//!     curl -N 'http://127.0.0.1:7700/f/stream-tokens/?prompt=the+miller&tokens=40'
//!
//! | parameter | what | default |
//! |---|---|---|
//! | `prompt` | what is continued | nothing |
//! | `tokens` | how many are added, up to 5,000 | 200 |
//! | `temperature` | how daring it is: 0 always takes the most probable one | 0.5 |
//! | `seed` | the same one gives the same text | by chance |
//!
//! A token is a letter here. Events have its number as their id; the last one has the name `end`.
//! A client that reads slowly slows the computing down, and one that leaves ends it.

mod alphabet;
mod dice;

use std::str::FromStr;

use quern_sdk::{Error, Event, Events, Model, Request, Response, Tensor, wasi};
use serde::Serialize;

use crate::{alphabet::Context, dice::Dice};

quern_sdk::http!(continue_text);

const MOST_TOKENS: u32 = 5_000;

#[derive(Serialize)]
struct Token {
    token: char,
}

#[derive(Serialize)]
struct End {
    tokens: u32,
}

/// What was asked for.
struct Task {
    context: Context,
    tokens: u32,
    temperature: f32,
    dice: Dice,
}

fn continue_text(request: Request) -> Result<Response, Error> {
    // First, what can go wrong: a status can't be changed any more once events are sent.
    let task = task(&request)?;
    let model = Model::open("next-letter")?;
    Ok(Response::events(move |events| task.run(&model, events)))
}

fn task(request: &Request) -> Result<Task, Error> {
    let tokens = parameter(request, "tokens", 200)?;
    let temperature: f32 = parameter(request, "temperature", 0.5)?;
    if tokens > MOST_TOKENS {
        return Err(Error::invalid_input(format!("tokens: at most {MOST_TOKENS}")));
    }
    if !(0.0..=10.0).contains(&temperature) {
        return Err(Error::invalid_input("temperature: between 0 and 10"));
    }
    let seed = parameter(request, "seed", wasi::random::random::get_random_u64())?;
    let context = Context::of(&request.query("prompt").unwrap_or_default());
    Ok(Task { context, tokens, temperature, dice: Dice::new(seed) })
}

fn parameter<T: FromStr>(request: &Request, name: &str, default: T) -> Result<T, Error> {
    let Some(text) = request.query(name) else { return Ok(default) };
    text.parse().map_err(|_| Error::invalid_input(format!("{name}: {text:?} is no such number")))
}

impl Task {
    fn run(mut self, model: &Model, events: &mut Events<'_>) -> Result<(), Error> {
        for number in 1..=self.tokens {
            let letters =
                Tensor::i64("letters", [1, Context::LENGTH as u64], &self.context.numbers())?;
            let probabilities = model.infer(letters)?.take("probabilities")?.to_f32()?;
            let letter = self.dice.draw(&probabilities, self.temperature);
            let token = self.context.push(letter)?;
            // Waits for a client that has not taken the tokens before.
            events.send(&Event::json(&Token { token })?.with_id(number.to_string())?)?;
        }
        events.send(&Event::json(&End { tokens: self.tokens })?.with_name("end")?)
    }
}
