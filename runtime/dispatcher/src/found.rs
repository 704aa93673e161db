//! What a name stands for where inference is asked for: a model or an inference function. Knows
//! what is deployed, never what is loaded.

use std::sync::Arc;

use quern_types::{
    BatchAxis, Call, Choice, Class, Deployed, Engine, FunctionSpec, InvokeError, ModelError,
    ModelSpec, Name, Picked, QualifiedName, Routes, Signature, TenantId, UnknownVersion, Version,
    VersionNumber,
};

/// The version asked for, and what it is a version of.
#[derive(Debug, Clone)]
pub enum Found {
    /// Of a model.
    Model(Arc<Deployed<ModelSpec>>, Arc<Version<ModelSpec>>),
    /// Of an inference function.
    Function(Arc<Deployed<FunctionSpec>>, Arc<Version<FunctionSpec>>),
}

impl Found {
    /// Finds a version by its number, or the live one.
    ///
    /// # Errors
    /// If there is none, or the name is that of a function which is called another way.
    pub fn find(
        routes: &Routes,
        tenant: &TenantId,
        name: &Name,
        number: Option<VersionNumber>,
    ) -> Result<Self, InvokeError> {
        if let Some(model) = routes.model(tenant, name) {
            return Ok(Self::Model(model.clone(), model_version(model, name, number)?));
        }
        // Neither a model nor a function: on this way a model is what was asked for.
        let function = routes
            .function(tenant, name)
            .ok_or_else(|| ModelError::NotFound { name: name.clone() })?;
        let version = function_version(function, name, number)?;
        if version.spec.kind.signature().is_none() {
            return Err(InvokeError::WrongKind {
                name: name.clone(),
                actual: version.spec.kind.as_str(),
                expected: "inference",
            });
        }
        Ok(Self::Function(function.clone(), version))
    }

    /// Chooses the version for a request: the one that it asks for, or that the traffic gives it.
    ///
    /// # Errors
    /// As [`Found::find`], and if there is no such alias.
    pub fn choose(
        routes: &Routes,
        tenant: &TenantId,
        name: &Name,
        choice: &Choice<'_>,
    ) -> Result<(Self, Picked), InvokeError> {
        let picked = match (routes.model(tenant, name), routes.function(tenant, name)) {
            (Some(model), _) => model.pick(name, choice).map_err(|unknown| match unknown {
                UnknownVersion::Number(version) => {
                    ModelError::VersionNotFound { name: name.clone(), version }.into()
                }
                UnknownVersion::Alias(alias) => {
                    InvokeError::AliasNotFound { name: name.clone(), alias }
                }
            })?,
            (None, Some(function)) => pick_function(function, name, choice)?,
            (None, None) => return Err(ModelError::NotFound { name: name.clone() }.into()),
        };
        Ok((Self::find(routes, tenant, name, Some(picked.version))?, picked))
    }

    /// What goes in and comes out.
    pub fn signature(&self) -> &Signature {
        match self {
            Self::Model(_, version) => &version.spec.signature,
            Self::Function(_, version) => {
                version.spec.kind.signature().expect("other kinds are not found here")
            }
        }
    }

    /// The version that was found.
    pub fn version(&self) -> VersionNumber {
        match self {
            Self::Model(_, version) => version.number,
            Self::Function(_, version) => version.number,
        }
    }

    /// The kept versions that can be called for inference, oldest first.
    pub fn versions(&self) -> Vec<VersionNumber> {
        match self {
            Self::Model(model, _) => model.versions().map(|version| version.number).collect(),
            Self::Function(function, _) => {
                let infers =
                    |version: &&Arc<Version<FunctionSpec>>| version.spec.kind.signature().is_some();
                function.versions().filter(infers).map(|version| version.number).collect()
            }
        }
    }

    /// The engine that computes it; none for a function.
    pub fn engine(&self) -> Option<Engine> {
        match self {
            Self::Model(_, version) => Some(version.spec.engine),
            Self::Function(..) => None,
        }
    }

    /// What the places of an output's last dimension stand for, where the manifest says so.
    pub fn labels(&self, output: &str) -> Option<Arc<[String]>> {
        match self {
            Self::Model(_, version) => version.spec.labels.get(output).cloned(),
            Self::Function(..) => None,
        }
    }

    /// Most rows in one run, where the first dimension of every tensor counts rows.
    pub fn max_rows(&self) -> Option<u32> {
        match self {
            Self::Model(_, version) => match version.spec.batch {
                BatchAxis::Rows { max } => Some(max),
                BatchAxis::None { .. } => None,
            },
            Self::Function(..) => None,
        }
    }
}

/// A version of a model, or the live one.
pub(crate) fn model_version(
    model: &Deployed<ModelSpec>,
    name: &Name,
    number: Option<VersionNumber>,
) -> Result<Arc<Version<ModelSpec>>, ModelError> {
    let version = model.version(number).cloned();
    version.map_err(|version| ModelError::VersionNotFound { name: name.clone(), version })
}

/// A version of a function, or the live one.
pub(crate) fn function_version(
    function: &Deployed<FunctionSpec>,
    name: &Name,
    number: Option<VersionNumber>,
) -> Result<Arc<Version<FunctionSpec>>, InvokeError> {
    let version = function.version(number).cloned();
    version.map_err(|version| InvokeError::VersionNotFound { name: name.clone(), version })
}

/// Chooses the version for a request that comes over HTTP.
pub(crate) fn choose_function(
    routes: &Routes,
    tenant: &TenantId,
    name: &Name,
    choice: &Choice<'_>,
) -> Result<(Arc<Version<FunctionSpec>>, Picked), InvokeError> {
    let function = routes
        .function(tenant, name)
        .ok_or_else(|| InvokeError::NotFound { name: name.clone() })?;
    let picked = pick_function(function, name, choice)?;
    Ok((function_version(function, name, Some(picked.version))?, picked))
}

/// Chooses the version of a function for a request.
fn pick_function(
    function: &Deployed<FunctionSpec>,
    name: &Name,
    choice: &Choice<'_>,
) -> Result<Picked, InvokeError> {
    function.pick(name, choice).map_err(|unknown| match unknown {
        UnknownVersion::Number(version) => {
            InvokeError::VersionNotFound { name: name.clone(), version }
        }
        UnknownVersion::Alias(alias) => InvokeError::AliasNotFound { name: name.clone(), alias },
    })
}

/// The call of a model as its owner's, if whoever makes it may at this moment.
pub(crate) fn of_owner(
    routes: &Routes,
    call: &Call,
    model: &QualifiedName,
) -> Result<Call, ModelError> {
    let owner = model.owner.as_ref().filter(|owner| **owner != call.tenant);
    let Some(owner) = owner else { return Ok(call.clone()) };
    match routes.is_shared(owner, Class::Model, &model.name, &call.tenant) {
        true => Ok(Call { tenant: owner.clone(), ..call.clone() }),
        false => Err(ModelError::NotShared { name: model.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::SystemTime};

    use quern_types::{DataType, Digest, FunctionKind, TensorSpec};

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
    fn signature() -> Signature {
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
        let number = version.and_then(VersionNumber::new);
        let found = Found::find(&routes(), &TenantId::default(), &name, number);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn models_and_inference_functions_are_found_by_name_and_version() {
        for (name, version, number, engine, max_rows, versions) in [
            ("m", None, 3, Some(Engine::Tract), Some(8), vec![1, 3]),
            ("m", Some(1), 1, Some(Engine::Tract), Some(8), vec![1, 3]),
            ("i", Some(2), 2, None, None, vec![2]),
        ] {
            let found = find(name, version).expect(name);
            assert_eq!((found.version().get(), found.max_rows()), (number, max_rows));
            assert_eq!(found.engine(), engine);
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
