//! Deploy, roll back and delete: takes uploads apart and hands them on. It validates nothing of
//! what it is given.

use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body as _;
use quern_deploy::{Activation, DeployedKind, Deployment, FunctionUpload, ModelForm, ModelUpload};
use quern_types::{ByteSize, Caller, Class, Digest, Name, VersionNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    inspection::{Kind, ModelTraits},
    invocation::Way,
    json_body::Form,
    multipart::{self, MultipartError},
    query,
};

/// `PUT /v1/{class}/{name}`
pub(crate) async fn deploy(
    gateway: &Gateway,
    caller: &Caller,
    way: Way<'_>,
    (class, name): (Class, Name),
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let (head, body) = request.into_parts();
    let activation = match query::parse(head.uri.query())? {
        DeployQuery { live: true } => Activation::Live,
        DeployQuery { live: false } => Activation::Waiting,
    };
    let (deployer, trace) = (&gateway.deployer, || way.trace.clone());
    deployer.check_declared(body.size_hint().lower())?;
    let deployment = match (class, multipart::boundary(&head.headers).transpose()?) {
        (Class::Function, Some(boundary)) => {
            let stage = |field| deployer.stage(field);
            let upload = multipart::receive(body.parts(), boundary, "component", stage).await?;
            let manifest = upload.manifest.ok_or(MultipartError::Missing { name: "manifest" })?;
            let component = FunctionUpload { content: upload.payload, activation, trace: trace() };
            deployer.deploy_function(caller, &name, &manifest, component).await?
        }
        (Class::Function, None) => {
            let reason = "the Content-Type is not multipart/form-data".into();
            return Err(MultipartError::Malformed { reason }.into());
        }
        (Class::Model, Some(boundary)) => {
            let stage = |field: multer::Field<'static>| async move {
                let form = model_form(field.headers());
                let content = deployer.stage(field).await?;
                Ok(ModelUpload { form, content, activation, trace: trace() })
            };
            let upload = multipart::receive(body.parts(), boundary, "model", stage).await?;
            let manifest = upload.manifest.as_deref();
            deployer.deploy_model(caller, &name, manifest, upload.payload).await?
        }
        (Class::Model, None) => {
            let form = model_form(&head.headers);
            let content = deployer.stage(Box::pin(body.parts())).await?;
            let model = ModelUpload { form, content, activation, trace: trace() };
            deployer.deploy_model(caller, &name, None, model).await?
        }
    };
    let status = if deployment.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut reply = body::json(&DeploymentReply::from(&deployment));
    *reply.status_mut() = status;
    Ok(reply)
}

/// What a model is uploaded as: what is not said to be an archive is an ONNX file, since few
/// clients have a name for its type.
fn model_form(headers: &HeaderMap) -> ModelForm {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case("application/x-tar") {
        true => ModelForm::Tar,
        false => ModelForm::Onnx,
    }
}

/// What becomes of the version once it is deployed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeployQuery {
    /// Whether it gets all requests; otherwise only those that ask for it, unless it is the first of
    /// its name.
    #[serde(default = "yes")]
    live: bool,
}

fn yes() -> bool {
    true
}

/// What was deployed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeploymentReply<'a> {
    /// What it is a version of.
    name: &'a Name,
    /// Its number.
    version: VersionNumber,
    /// What it is made of.
    digest: Digest,
    /// Whether it is new; otherwise the same was kept already.
    created: bool,
    /// Whether it is live.
    live: bool,
    /// What it is.
    kind: Kind,
    /// Where it is called.
    url: String,
    #[serde(flatten)]
    model: Option<ModelTraits<'a>>,
    /// How long compiling took, of a function.
    #[serde(skip_serializing_if = "Option::is_none")]
    compile_ms: Option<u64>,
}

impl<'a> From<&'a Deployment> for DeploymentReply<'a> {
    fn from(deployment: &'a Deployment) -> Self {
        let Deployment { name, version, digest, created, live, kind, compile } = deployment;
        let (kind, model) = match kind {
            DeployedKind::Function(spec) => (Kind::from(&**spec), None),
            DeployedKind::Model(spec) => (Kind::Model, Some(ModelTraits::from(&**spec))),
        };
        Self {
            name,
            version: *version,
            digest: *digest,
            created: *created,
            live: *live,
            kind,
            url: match kind {
                Kind::Http => format!("/f/{name}/"),
                Kind::Inference | Kind::Model => format!("/v2/models/{name}/infer"),
            },
            model,
            compile_ms: compile.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// What to go back to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// The version; if it isn't said, the live one where several share the requests, and else the
    /// newest kept one below it.
    version: Option<VersionNumber>,
}

impl RollbackRequest {
    const FORM: Form = Form { limit: ByteSize(4096), example: r#"{"version": 3}"# };
}

/// What serves after a rollback.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RollbackReply {
    /// Of what.
    name: Name,
    /// The version that serves now.
    version: VersionNumber,
}

/// `POST /v1/{class}/{name}/rollback`
pub(crate) async fn roll_back(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: Name,
    body: RequestBody,
) -> Result<Reply, Failure> {
    let RollbackRequest { version } = RollbackRequest::FORM.read_if_any(gateway, body).await?;
    let version = gateway.deployer.rollback(caller, class, &name, version).await?;
    Ok(body::json(&RollbackReply { name, version }))
}

/// `DELETE /v1/{class}/{name}`
pub(crate) async fn delete(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: Name,
) -> Result<Reply, Failure> {
    gateway.deployer.delete(caller, class, &name).await?;
    Ok(gone())
}

/// `DELETE /v1/{class}/{name}/versions/{version}`
pub(crate) async fn delete_version(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: Name,
    version: VersionNumber,
) -> Result<Reply, Failure> {
    gateway.deployer.delete_version(caller, class, &name, version).await?;
    Ok(gone())
}

fn gone() -> Reply {
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply
}
