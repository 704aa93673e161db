//! Asks for memory page by page, and touches each, until there is no more.

use core::arch::wasm32;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    loop {
        let page = wasm32::memory_grow(0, 1);
        assert_ne!(page, usize::MAX, "it was refused");
        // SAFETY: the page was added a moment ago, and nothing else knows of it.
        unsafe { std::ptr::write_volatile((page << 16) as *mut u8, 1) };
    }
}

hostile_guests::hostile!(run);
