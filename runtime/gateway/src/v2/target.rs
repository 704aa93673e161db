//! What a name under `/v2/models` stands for: a model or an inference function. The two are told
//! apart here and nowhere else.

use std::sync::Arc;

use quern_types::{
    Deployed, FunctionSpec, InvokeError, ModelError, ModelSpec, Routes, Signature, TenantId,
    Version, VersionNumber,
};

use crate::route::Target;

/// The version asked for, and what it is a version of.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Of a model.
    Model(Arc<Deployed<ModelSpec>>, Arc<Version<ModelSpec>>),
    /// Of an inference function.
    Function(Arc<Deployed<FunctionSpec>>, Arc<Version<FunctionSpec>>),
}

impl Found {
    pub(crate) fn find(
        routes: &Routes,
        tenant: &TenantId,
        target: &Target,
    ) -> Result<Self, InvokeError> {
        let name = &target.name;
        if let Some(model) = routes.model(tenant, name) {
            let version = model
                .version(target.version)
                .map_err(|version| ModelError::VersionNotFound { name: name.clone(), version })?;
            return Ok(Self::Model(model.clone(), version.clone()));
        }
        let function = routes
            .function(tenant, name)
            .ok_or_else(|| ModelError::NotFound { name: name.clone() })?;
        let version = function
            .version(target.version)
            .map_err(|version| InvokeError::VersionNotFound { name: name.clone(), version })?;
        if version.spec.kind.signature().is_none() {
            return Err(InvokeError::WrongKind {
                name: name.clone(),
                actual: version.spec.kind.as_str(),
                expected: "inference",
            });
        }
        Ok(Self::Function(function.clone(), version.clone()))
    }

    pub(crate) fn signature(&self) -> &Signature {
        match self {
            Self::Model(_, version) => &version.spec.signature,
            Self::Function(_, version) => {
                version.spec.kind.signature().expect("other kinds are not found here")
            }
        }
    }

    /// The kept versions, oldest first.
    pub(crate) fn versions(&self) -> Vec<VersionNumber> {
        match self {
            Self::Model(model, _) => model.versions().map(|version| version.number).collect(),
            Self::Function(function, _) => {
                function.versions().map(|version| version.number).collect()
            }
        }
    }

    /// What computes it, as the protocol calls that.
    pub(crate) fn platform(&self) -> String {
        match self {
            Self::Model(_, version) => format!("{}_onnx", version.spec.engine),
            Self::Function(..) => "wasm_component".into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{collections::BTreeMap, time::SystemTime};

    use quern_types::{BatchAxis, DataType, Digest, Engine, FunctionKind, TensorSpec};

    use super::*;

    fn version<Spec>(number: u32, spec: Spec) -> Arc<Version<Spec>> {
        Arc::new(Version {
            number: VersionNumber::new(number).expect("not zero"),
            digest: Digest::of(b"version"),
            content: Digest::of(b"content"),
            spec: Arc::new(spec),
            created: SystemTime::UNIX_EPOCH,
        })
    }

    fn deployed<Spec: Clone>(spec: &Spec, numbers: &[u32]) -> Arc<Deployed<Spec>> {
        let versions = numbers.iter().map(|number| version(*number, spec.clone()));
        let versions: BTreeMap<_, _> = versions.map(|one| (one.number, one)).collect();
        let live = *versions.keys().next_back().expect("a version");
        Arc::new(Deployed::new(versions, live).expect("the live one is among them"))
    }

    /// A signature of one input `x` and the outputs `label` and `half`.
    pub(crate) fn signature() -> Signature {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.into(),
            dtype,
            shape: vec![-1],
            range: None,
        };
        Signature::new(
            vec![spec("x", DataType::Fp32)],
            vec![spec("label", DataType::Int64), spec("half", DataType::Fp16)],
        )
        .expect("valid")
    }

    /// The model `m`, the inference function `i` and the http function `h`.
    fn routes() -> Routes {
        let function = FunctionSpec::new;
        let model = ModelSpec::new(signature(), Engine::Tract, BatchAxis::Rows { max: 8 });
        let mut routes = Routes::default();
        let own = routes.tenant_mut(&TenantId::default());
        let name = |text: &str| text.parse().expect("a name");
        own.models.insert(name("m"), deployed(&model, &[1, 3]));
        let inference = function(FunctionKind::Inference(signature()));
        own.functions.insert(name("i"), deployed(&inference, &[2]));
        own.functions.insert(name("h"), deployed(&function(FunctionKind::Http), &[1]));
        routes
    }

    fn find(name: &str, version: Option<u32>) -> Result<Found, String> {
        let name = name.parse().expect("a name");
        let target = Target { name, version: version.and_then(VersionNumber::new) };
        let found = Found::find(&routes(), &TenantId::default(), &target);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn models_and_inference_functions_are_found_by_name_and_version() {
        for (name, version, platform, versions) in [
            ("m", None, "tract_onnx", vec![1, 3]),
            ("m", Some(1), "tract_onnx", vec![1, 3]),
            ("i", Some(2), "wasm_component", vec![2]),
        ] {
            let found = find(name, version).expect(name);
            assert_eq!(found.platform(), platform);
            let numbers = found.versions().into_iter().map(VersionNumber::get);
            assert_eq!(numbers.collect::<Vec<_>>(), versions);
            assert_eq!(found.signature(), &signature());
        }
    }

    #[test]
    fn what_is_not_found_is_named() {
        for (name, version, message) in [
            ("nobody", None, "model \"nobody\" is not deployed"),
            ("m", Some(2), "model \"m\" has no version 2"),
            ("i", Some(1), "function \"i\" has no version 1"),
            ("h", None, "function \"h\" is of kind http, not inference"),
        ] {
            assert_eq!(find(name, version).expect_err(name), message);
        }
    }
}
