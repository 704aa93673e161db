//! `wasi:nn`: a guest's calls to models of the host, spelt as the standard has it. It checks
//! grants and tensors; the calls go to `ModelCalls`, as those of `quern:ml` do.

mod convert;

use bytes::Bytes;
use quern_types::{Call, ModelCall, ModelCalls, ModelError, QualifiedName};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};

use self::{
    convert::{code_of, from_host, to_host},
    generated::wasi::nn::{
        errors::{self, ErrorCode},
        graph::{self, ExecutionTarget, GraphEncoding},
        inference,
        tensor::{self, TensorType},
    },
};
use crate::{held::Held, state::State};

mod generated {
    //! Bindings of the interfaces.

    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package quern:host;
            world networks {
                import wasi:nn/errors@0.2.0-rc-2024-10-28;
                import wasi:nn/graph@0.2.0-rc-2024-10-28;
                import wasi:nn/inference@0.2.0-rc-2024-10-28;
                import wasi:nn/tensor@0.2.0-rc-2024-10-28;
            }
        ",
        world: "quern:host/networks",
        imports: {
            "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:nn/errors.error": super::Failure,
            "wasi:nn/graph.graph": super::Graph,
            "wasi:nn/inference.graph-execution-context": super::Context,
            "wasi:nn/tensor.tensor": super::HeldTensor,
        },
    });
}

/// A tensor that the host holds for a guest; it counts against the guest's memory.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct HeldTensor {
    dimensions: Vec<u32>,
    kind: TensorType,
    data: Bytes,
}

/// A model that a guest has loaded by its name.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Graph {
    model: QualifiedName,
}

/// What a guest computes a model with.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Context {
    model: QualifiedName,
}

/// Why something failed, for the guest.
#[derive(Debug, PartialEq)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Failure {
    code: ErrorCode,
    text: String,
}

impl Failure {
    fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// Models for one invocation, together with the table that its handles live in.
pub(crate) struct NetworkView<'a> {
    pub(crate) calls: &'a dyn ModelCalls,
    pub(crate) granted: &'a [QualifiedName],
    pub(crate) call: &'a Call,
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) held: &'a mut Held,
}

/// Names [`NetworkView`] for the linker.
struct Networks;

impl HasData for Networks {
    type Data<'a> = NetworkView<'a>;
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    errors::add_to_linker::<State, Networks>(linker, State::networks)?;
    graph::add_to_linker::<State, Networks>(linker, State::networks)?;
    inference::add_to_linker::<State, Networks>(linker, State::networks)?;
    tensor::add_to_linker::<State, Networks>(linker, State::networks)
}

/// The outer result is a trap, the inner one the guest's.
type Answer<T> = wasmtime::Result<Result<T, Resource<Failure>>>;

impl NetworkView<'_> {
    /// Hands a failure to the guest as the resource that it is there.
    fn answer<T>(&mut self, result: Result<T, Failure>) -> Answer<T> {
        Ok(match result {
            Ok(value) => Ok(value),
            Err(failure) => Err(self.table.push(failure)?),
        })
    }

    fn find(&self, name: &str) -> Result<Graph, Failure> {
        let granted = self.granted.iter().find(|granted| granted.is(name));
        let Some(model) = granted.cloned() else {
            return Err(Failure::new(
                ErrorCode::Security,
                format!(
                    "model {name:?} is not granted to this function: add it to grants.models in \
                     its manifest"
                ),
            ));
        };
        let spec = self.calls.spec(self.call, &model);
        spec.map_err(|error| Failure::new(code_of(&error), error.to_string()))?;
        Ok(Graph { model })
    }
}

/// Calls a model; its inputs count as held until this is done.
async fn infer(
    calls: &dyn ModelCalls,
    call: &Call,
    model: QualifiedName,
    inputs: Vec<(String, HeldTensor)>,
) -> Result<Vec<(String, HeldTensor)>, Failure> {
    let failed = |error: ModelError| Failure::new(code_of(&error), error.to_string());
    let spec = calls.spec(call, &model).map_err(failed)?;
    let inputs = inputs.into_iter().map(|(name, tensor)| to_host(name, tensor, &spec.signature));
    let inputs = inputs.collect::<Result<_, _>>()?;
    let call = ModelCall { call: call.clone(), model, version: None, inputs };
    let reply = calls.infer(call).await.map_err(failed)?;
    reply.outputs.iter().map(from_host).collect()
}

impl tensor::Host for NetworkView<'_> {}
impl errors::Host for NetworkView<'_> {}
impl inference::Host for NetworkView<'_> {}

impl tensor::HostTensor for NetworkView<'_> {
    /// Whether data and dimensions agree is told when they are used: a constructor can't fail.
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        kind: TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<HeldTensor>> {
        self.held.take(data.len())?;
        Ok(self.table.push(HeldTensor { dimensions, kind, data: data.into() })?)
    }

    fn dimensions(&mut self, tensor: Resource<HeldTensor>) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&tensor)?.dimensions.clone())
    }

    fn ty(&mut self, tensor: Resource<HeldTensor>) -> wasmtime::Result<TensorType> {
        Ok(self.table.get(&tensor)?.kind)
    }

    fn data(&mut self, tensor: Resource<HeldTensor>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.table.get(&tensor)?.data.to_vec())
    }

    fn drop(&mut self, tensor: Resource<HeldTensor>) -> wasmtime::Result<()> {
        let tensor = self.table.delete(tensor)?;
        self.held.give_back(tensor.data.len());
        Ok(())
    }
}

impl graph::Host for NetworkView<'_> {
    fn load(
        &mut self,
        _: Vec<Vec<u8>>,
        _: GraphEncoding,
        _: ExecutionTarget,
    ) -> Answer<Resource<Graph>> {
        self.answer(Err(Failure::new(
            ErrorCode::UnsupportedOperation,
            "functions don't bring their models: deploy the model, grant it in the manifest with \
             grants.models, and use load-by-name",
        )))
    }

    fn load_by_name(&mut self, name: String) -> Answer<Resource<Graph>> {
        match self.find(&name) {
            Ok(graph) => Ok(Ok(self.table.push(graph)?)),
            Err(failure) => self.answer(Err(failure)),
        }
    }
}

impl graph::HostGraph for NetworkView<'_> {
    fn init_execution_context(&mut self, graph: Resource<Graph>) -> Answer<Resource<Context>> {
        let model = self.table.get(&graph)?.model.clone();
        Ok(Ok(self.table.push(Context { model })?))
    }

    fn drop(&mut self, graph: Resource<Graph>) -> wasmtime::Result<()> {
        self.table.delete(graph)?;
        Ok(())
    }
}

impl inference::HostGraphExecutionContext for NetworkView<'_> {
    async fn compute(
        &mut self,
        context: Resource<Context>,
        inputs: Vec<(String, Resource<HeldTensor>)>,
    ) -> Answer<Vec<(String, Resource<HeldTensor>)>> {
        let model = self.table.get(&context)?.model.clone();
        let (mut taken, mut bytes) = (Vec::with_capacity(inputs.len()), 0);
        for (name, tensor) in inputs {
            let tensor = self.table.delete(tensor)?;
            bytes += tensor.data.len();
            taken.push((name, tensor));
        }
        let outputs = infer(self.calls, self.call, model, taken).await;
        // The inputs count until the call has ended.
        self.held.give_back(bytes);
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(failure) => return self.answer(Err(failure)),
        };
        let mut answered = Vec::with_capacity(outputs.len());
        for (name, tensor) in outputs {
            if let Err(error) = self.held.take(tensor.data.len()) {
                return self.answer(Err(Failure::new(ErrorCode::TooLarge, error.to_string())));
            }
            answered.push((name, self.table.push(tensor)?));
        }
        Ok(Ok(answered))
    }

    fn drop(&mut self, context: Resource<Context>) -> wasmtime::Result<()> {
        self.table.delete(context)?;
        Ok(())
    }
}

impl errors::HostError for NetworkView<'_> {
    fn code(&mut self, error: Resource<Failure>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&error)?.code)
    }

    fn data(&mut self, error: Resource<Failure>) -> wasmtime::Result<String> {
        Ok(self.table.get(&error)?.text.clone())
    }

    fn drop(&mut self, error: Resource<Failure>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}
