//! Generated from the contract in `wit/`; the standard interfaces come from crate `wasip2`.
//! Private but for what the macros need: everything public is wrapped by the other modules.

wit_bindgen::generate!({
    world: "inference-function",
    path: "../wit",
    with: {
        "wasi:cli/environment@0.2.12": wasip2::cli::environment,
        "wasi:cli/exit@0.2.12": wasip2::cli::exit,
        "wasi:cli/stderr@0.2.12": wasip2::cli::stderr,
        "wasi:cli/stdin@0.2.12": wasip2::cli::stdin,
        "wasi:cli/stdout@0.2.12": wasip2::cli::stdout,
        "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
        "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
        "wasi:random/random@0.2.12": wasip2::random::random,
    },
    generate_all,
    // What is computed on devices is plain values, to be kept and compared.
    additional_derives: [PartialEq],
    // The export's description is emitted where `inference!` is invoked, so that a component
    // which only calls models is not asked for the export.
    pub_export_macro: true,
    export_macro_name: "export_inference",
    default_bindings_module: "$crate::bindings",
});
