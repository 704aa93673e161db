//! Components that are made here, of text or byte by byte, because no compiler would make them.

use wit_component::{ComponentEncoder, StringEncoding};

use crate::support::root;

/// What every component begins with.
const PREAMBLE: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
/// The section that holds a nested component.
const COMPONENT_SECTION: u8 = 4;

/// An inference function whose `infer` has this body; it is given the pointer and count of its
/// inputs, and returns a pointer to its result. `fields` is put before it.
pub(crate) fn inference(fields: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "(module
            (memory (export \"memory\") 2)
            (global $free (mut i32) (i32.const 1024))
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at
                    (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            {fields}
            (func $infer (export \"quern:ml/inference@0.1.0#infer\")
                (param $inputs i32) (param $count i32) (result i32)
                {body}))"
    );
    let mut module = wat::parse_str(&text).expect("valid text");
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit")).expect("the contract");
    let world = resolve.select_world(&[package], Some("inference-function")).expect("its world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("metadata");
    let mut encoder = ComponentEncoder::default().module(&module).expect("a module");
    encoder.encode().expect("a component")
}

/// The end of an `infer` that answers with its inputs: the result lies at 0, its discriminant,
/// then the list. A tensor is a name, a type, a shape and data, in 28 bytes.
pub(crate) const ECHO: &str = "(i32.store (i32.const 0) (i32.const 0))
    (i32.store (i32.const 4) (local.get $inputs))
    (i32.store (i32.const 8) (local.get $count))
    (i32.const 0)";

/// A component that looks like a function of kind "http" from the outside, so that the server
/// goes on to compile it: whatever `sections` has, and an empty instance as its handler. What is in
/// `sections` must not make instances.
pub(crate) fn disguised(mut sections: Vec<u8>) -> Vec<u8> {
    let export = text(
        "(component (instance $empty)
            (export \"wasi:http/incoming-handler@0.2.12\" (instance $empty)))",
    );
    sections.extend_from_slice(&export[PREAMBLE.len()..]);
    sections
}

/// A component or module in the text format.
pub(crate) fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("valid text")
}

/// Components inside of components, this deep.
pub(crate) fn nested(depth: usize) -> Vec<u8> {
    let mut lengths = vec![PREAMBLE.len()];
    for level in 0..depth {
        let inner = lengths[level];
        lengths.push(PREAMBLE.len() + 1 + leb(inner).len() + inner);
    }
    let mut bytes = Vec::with_capacity(lengths[depth]);
    for inner in lengths[..depth].iter().rev() {
        bytes.extend_from_slice(&PREAMBLE);
        bytes.push(COMPONENT_SECTION);
        bytes.extend(leb(*inner));
    }
    bytes.extend_from_slice(&PREAMBLE);
    bytes
}

/// A component with types that refer to each other, this many: lists of lists, or pairs of the
/// type before, which doubles what each stands for.
pub(crate) fn deep_types(depth: usize, pairs: bool) -> Vec<u8> {
    let mut types = vec![if pairs { 0x6f } else { 0x70 }];
    types.extend_from_slice(if pairs { &[2, 0x7d, 0x7d] } else { &[0x7d] });
    for previous in 0..depth {
        let index = signed_leb(previous);
        types.push(if pairs { 0x6f } else { 0x70 });
        if pairs {
            types.push(2);
            types.extend_from_slice(&index);
        }
        types.extend(index);
    }
    let mut content = leb(depth + 1);
    content.extend(types);
    let mut bytes = PREAMBLE.to_vec();
    bytes.push(7);
    bytes.extend(leb(content.len()));
    bytes.extend(content);
    bytes
}

/// A module of many functions with many locals: a few bytes each, whatever they declare.
pub(crate) fn many_locals(functions: usize, locals: usize) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(leb(locals));
    body.extend_from_slice(&[0x7e, 0x0b]);
    core_module(functions, &body)
}

/// A module of many functions with a large jump table each.
pub(crate) fn many_tables(functions: usize, targets: usize) -> Vec<u8> {
    // No locals; two blocks, a jump into either by the constant 1, ends.
    let mut body = vec![0, 0x02, 0x40, 0x02, 0x40, 0x41, 1, 0x0e];
    body.extend(leb(targets));
    body.extend((0..targets).map(|target| (target % 2) as u8));
    body.extend_from_slice(&[0, 0x0b, 0x0b, 0x0b]);
    core_module(functions, &body)
}

/// A component around a module of functions of type `() -> ()`, all with this body.
fn core_module(functions: usize, body: &[u8]) -> Vec<u8> {
    let mut declared = leb(functions);
    declared.resize(declared.len() + functions, 0);
    let mut code = leb(functions);
    for _ in 0..functions {
        code.extend(leb(body.len()));
        code.extend_from_slice(body);
    }
    let mut module = vec![0, b'a', b's', b'm', 1, 0, 0, 0];
    for (id, content) in [(1, vec![1, 0x60, 0, 0]), (3, declared), (10, code)] {
        module.push(id);
        module.extend(leb(content.len()));
        module.extend(content);
    }
    let mut bytes = PREAMBLE.to_vec();
    bytes.push(1);
    bytes.extend(leb(module.len()));
    bytes.extend(module);
    bytes
}

/// A number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The same where a sign could be: types are named so.
fn signed_leb(number: usize) -> Vec<u8> {
    let mut bytes = leb(number);
    let last = bytes.last_mut().expect("at least one");
    if *last & 0x40 != 0 {
        *last |= 0x80;
        bytes.push(0);
    }
    bytes
}
