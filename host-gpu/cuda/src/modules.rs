//! The kernels on a device, loaded when they are first used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::{
    driver::{CudaContext, CudaFunction, CudaModule},
    nvrtc::Ptx,
};

use crate::{
    device::CudaDeviceError,
    driver::text,
    images::{Origin, image},
    source::{Family, SOURCES, compile, has_compiler},
};

/// The kernels of one device.
pub(crate) struct Modules {
    context: Arc<CudaContext>,
    origin: Origin,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<Family, Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
}

impl Modules {
    /// Those of a device of a compute capability. One of them is loaded at once: if none can be,
    /// it is known before a tensor is.
    pub(crate) fn new(
        context: &Arc<CudaContext>,
        capability: (u32, u32),
    ) -> Result<Self, CudaDeviceError> {
        let origin = Origin::of(capability, has_compiler);
        let modules = Self { context: context.clone(), origin, loaded: Mutex::default() };
        let loaded = modules.function(Family::Movement, "copy_b1");
        loaded.map_err(|reason| CudaDeviceError::Kernels { capability, reason })?;
        Ok(modules)
    }

    /// A kernel by its name, or why it can't be had.
    pub(crate) fn function(&self, family: Family, name: &str) -> Result<CudaFunction, String> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(name) {
            return Ok(function.clone());
        }
        let module = match loaded.modules.get(&family) {
            Some(module) => module.clone(),
            None => {
                let module = self.load(family)?;
                loaded.modules.insert(family, module.clone());
                module
            }
        };
        let function = module.load_function(name);
        let function = function.map_err(|error| format!("{name}: {}", text(error)))?;
        loaded.functions.insert(name.to_owned(), function.clone());
        Ok(function)
    }

    /// What was loaded so far, by the names of images.
    pub(crate) fn loaded(&self) -> Vec<String> {
        let target = match self.origin {
            Origin::Image(image) => image.name().to_owned(),
            Origin::Compiler(target) => format!("{} (compiled now)", target.name()),
        };
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let families = loaded.modules.keys();
        let mut names: Vec<_> =
            families.map(|family| format!("{}.{target}", SOURCES[*family as usize].name)).collect();
        names.sort();
        names
    }

    fn load(&self, family: Family) -> Result<Arc<CudaModule>, String> {
        let source = &SOURCES[family as usize];
        let unreadable = |error| format!("the image of {} is damaged: {error}", source.name);
        let module = match self.origin {
            Origin::Compiler(target) => {
                Ptx::from_binary(compile(source, target).map_err(|error| error.to_string())?)
            }
            Origin::Image(kind) => Ptx::from_binary(image(family, kind).map_err(unreadable)?),
        };
        let module = self.context.load_module(module);
        module.map_err(|error| format!("loading {}: {}", source.name, text(error)))
    }
}
