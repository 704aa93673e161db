//! One channel of a worker: takes requests, one at a time, and answers each. Never trusted by
//! whoever asks.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Instant,
};

use quern_process::socket;
use quern_types::{DeviceError, Lookout};

use super::protocol::{Load, MAX_MESSAGE, ModelId, Placed, Port, Reply, Request};
use crate::engine::{self, Input, Output, Program, guarded, onnxruntime::Runtime};
use crate::process::region::{KEPT_BYTES, Layout, Misplaced, Part, Region, open_sealed};

/// What all channels of a worker share.
pub(super) struct Loaded {
    pub(super) runtime: Option<Runtime>,
    pub(super) lanes: usize,
    pub(super) models: RwLock<HashMap<ModelId, Arc<Model>>>,
}

pub(super) struct Model {
    inputs: Vec<Port>,
    programs: Vec<Mutex<Box<dyn Program>>>,
}

/// A channel. The index of one that computes is its lane.
pub(super) struct Computer {
    pub(super) index: usize,
    pub(super) socket: OwnedFd,
    pub(super) loaded: Arc<Loaded>,
    /// Where the server puts inputs and wants outputs.
    region: Option<Arc<Region>>,
    /// Outputs for which there was no room, and how long computing them took.
    uncollected: Option<(Vec<Output>, u64)>,
}

impl Computer {
    pub(super) fn new(index: usize, socket: OwnedFd, loaded: Arc<Loaded>) -> Self {
        Self { index, socket, loaded, region: None, uncollected: None }
    }

    /// Answers requests until the server is gone. Where they come one soon after the other, it looks
    /// out for the next one for a moment before it sleeps.
    pub(super) fn serve(mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut lookout = Lookout::default();
        loop {
            let since = Instant::now();
            let receive = || socket::try_receive_with_file(&self.socket, &mut buffer);
            let received = match socket::look(lookout.patience(), receive) {
                Some(received) => received,
                None => socket::receive_with_file(&self.socket, &mut buffer),
            };
            lookout.came_after(since.elapsed());
            let (request, file) = match received {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                received => received?,
            };
            let reply =
                self.answer(request, file).unwrap_or_else(|reason| Reply::Refused { reason });
            match socket::send(&self.socket, &reply, None) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    let reason = "its outputs have too many dimensions".into();
                    socket::send(&self.socket, &Reply::Failed { reason }, None)?;
                }
                sent => sent?,
            }
            // As the server does: what one large run needed is not kept for all that follow.
            self.region.take_if(|region| region.bytes() > KEPT_BYTES && self.uncollected.is_none());
        }
    }

    fn answer(&mut self, request: Request, file: Option<OwnedFd>) -> Result<Reply, String> {
        match request {
            Request::Load(Load { model, engine, lanes, inputs }) => {
                let file = file.ok_or("a model without its memory")?;
                let onnx = open_sealed(&file).map_err(|error| error.to_string())?;
                let Loaded { runtime, lanes: most, models } = &*self.loaded;
                let lanes = usize::try_from(lanes).unwrap_or(usize::MAX).min(*most);
                Ok(match engine::load(engine, &onnx, runtime.as_ref(), lanes) {
                    Ok(programs) => {
                        let programs = programs.into_iter().map(Mutex::new).collect();
                        let loaded = Arc::new(Model { inputs, programs });
                        models
                            .write()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(model, loaded);
                        Reply::Done
                    }
                    Err(DeviceError::EngineAbsent { reason, .. }) => Reply::Absent { reason },
                    Err(DeviceError::Load { reason, .. }) => Reply::Failed { reason },
                    Err(other) => Reply::Failed { reason: other.to_string() },
                })
            }
            Request::Unload { model } => {
                let models = &self.loaded.models;
                let unloaded =
                    models.write().unwrap_or_else(PoisonError::into_inner).remove(&model);
                // Which takes its time; lanes look their models up meanwhile.
                drop(unloaded);
                Ok(Reply::Done)
            }
            Request::Run { model, inputs, room } => {
                self.replace_region(file)?;
                self.uncollected = None;
                self.run(model, inputs, room)
            }
            Request::Collect => {
                self.replace_region(file)?;
                let region = self.region.as_ref().ok_or("no memory for outputs")?;
                let (outputs, compute_ns) = self.uncollected.take().ok_or("nothing to collect")?;
                let room = Part { offset: 0, length: region.bytes() };
                match place(region, room, &outputs).map_err(|error| error.to_string())? {
                    Room::Found(outputs) => Ok(Reply::Ran { compute_ns, outputs }),
                    Room::Needed { .. } => Err("the memory for outputs is too small".into()),
                }
            }
        }
    }

    fn replace_region(&mut self, file: Option<OwnedFd>) -> Result<(), String> {
        if let Some(file) = file {
            self.region = None;
            let region = Region::open(&file).map_err(|error| error.to_string())?;
            self.region = Some(Arc::new(region));
        }
        Ok(())
    }

    fn run(&mut self, model: ModelId, inputs: Vec<Placed>, room: Part) -> Result<Reply, String> {
        let region = self.region.clone().ok_or("a run without memory")?;
        let models = self.loaded.models.read().unwrap_or_else(PoisonError::into_inner);
        let model = models.get(&model).cloned();
        drop(models);
        let model = model.ok_or("a run of a model that is not loaded")?;
        let program =
            model.programs.get(self.index).ok_or("this channel is no lane of the model")?;
        if inputs.len() != model.inputs.len() {
            return Err("a run with another number of inputs".into());
        }
        let inputs = inputs.into_iter().zip(&model.inputs);
        let inputs = inputs.map(|(placed, port)| input(&region, placed, port));
        let inputs: Vec<Input> = inputs.collect::<Result<_, _>>()?;

        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let outputs = match guarded(|| program.run(&inputs)) {
            Ok(outputs) => outputs,
            Err(reason) => return Ok(Reply::Failed { reason }),
        };
        let compute_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        drop(program);
        Ok(match place(&region, room, &outputs) {
            Ok(Room::Found(outputs)) => Reply::Ran { compute_ns, outputs },
            Ok(Room::Needed { bytes }) => {
                self.uncollected = Some((outputs, compute_ns));
                Reply::NoRoom { bytes }
            }
            Err(error) => Reply::Failed { reason: error.to_string() },
        })
    }
}

/// Whether the room for outputs is large enough.
enum Room {
    /// They are there.
    Found(Vec<Placed>),
    /// They need so much.
    Needed { bytes: u64 },
}

fn input(region: &Arc<Region>, placed: Placed, port: &Port) -> Result<Input, String> {
    let dims = placed.shape.into_iter().map(usize::try_from);
    let shape = dims.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let data = region.window(placed.part).map_err(|error| error.to_string())?;
    Ok(Input { name: port.name.clone(), dtype: placed.dtype, shape, parts: vec![data] })
}

/// Copies outputs into the room for them, if it is large enough for all.
fn place(region: &Region, room: Part, outputs: &[Output]) -> Result<Room, Misplaced> {
    let mut layout = Layout::behind(room.offset);
    let mut placed = Vec::with_capacity(outputs.len());
    for Output { dtype, shape, data } in outputs {
        let part = layout.place(data.len() as u64)?;
        placed.push(Placed { dtype: *dtype, shape: shape.clone(), part });
    }
    let end = room.offset.saturating_add(room.length);
    if placed.iter().any(|output| output.part.offset + output.part.length > end) {
        let mut layout = Layout::default();
        outputs.iter().try_for_each(|output| layout.place(output.data.len() as u64).map(|_| ()))?;
        return Ok(Room::Needed { bytes: layout.end() });
    }
    for (placed, output) in placed.iter().zip(outputs) {
        region.write(placed.part, std::slice::from_ref(&output.data))?;
    }
    Ok(Room::Found(placed))
}

#[cfg(test)]
mod tests {
    use quern_types::Engine;

    use super::*;
    use crate::process::region::sealed;

    #[test]
    fn a_model_is_loaded_for_as_many_lanes_as_it_runs_on() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../functions/digits-mlp/digits-mlp.onnx");
        let onnx = std::fs::read(file).expect("a model");
        let models = RwLock::default();
        let loaded = Arc::new(Loaded { runtime: None, lanes: 4, models });
        let (socket, _server) = socket::pair().expect("a pair");
        let mut computer = Computer::new(4, socket, loaded.clone());
        for (number, (asked, expected)) in [(1, 1), (3, 3), (u32::MAX, 4)].into_iter().enumerate() {
            let (model, engine) = (ModelId(number as u64), Engine::Tract);
            let load = Load { model, engine, lanes: asked, inputs: vec![] };
            let file = sealed(&onnx).expect("memory");
            assert_eq!(computer.answer(Request::Load(load), Some(file)), Ok(Reply::Done));
            let models = loaded.models.read().expect("no panic");
            assert_eq!(models[&model].programs.len(), expected);
        }
    }
}
