//! Deploy, roll back and delete: takes uploads apart and hands them on. It validates nothing of
//! what it is given.

use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body as _;
use quern_deploy::{DeployedKind, Deployment, ModelForm, ModelUpload};
use quern_types::{ByteSize, Caller, Class, FunctionKind, Name, VersionNumber};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::{Code, Failure},
    inspection,
    multipart::{self, MultipartError},
};

/// Largest body of a rollback.
const MAX_ROLLBACK: ByteSize = ByteSize(4096);

/// `PUT /v1/{class}/{name}`
pub(crate) async fn deploy(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: Name,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let (head, body) = request.into_parts();
    let deployer = &gateway.deployer;
    deployer.check_declared(body.size_hint().lower())?;
    let deployment = match (class, multipart::boundary(&head.headers).transpose()?) {
        (Class::Function, Some(boundary)) => {
            let stage = |field| deployer.stage(field);
            let upload = multipart::receive(body.parts(), boundary, "component", stage).await?;
            let manifest = upload.manifest.ok_or(MultipartError::Missing { name: "manifest" })?;
            deployer.deploy_function(caller, &name, &manifest, upload.payload).await?
        }
        (Class::Function, None) => {
            let reason = "the Content-Type is not multipart/form-data".into();
            return Err(MultipartError::Malformed { reason }.into());
        }
        (Class::Model, Some(boundary)) => {
            let stage = |field: multer::Field<'static>| async move {
                let form = model_form(field.headers());
                Ok(ModelUpload { form, content: deployer.stage(field).await? })
            };
            let upload = multipart::receive(body.parts(), boundary, "model", stage).await?;
            let manifest = upload.manifest.as_deref();
            deployer.deploy_model(caller, &name, manifest, upload.payload).await?
        }
        (Class::Model, None) => {
            let form = model_form(&head.headers);
            let content = deployer.stage(Box::pin(body.parts())).await?;
            let model = ModelUpload { form, content };
            deployer.deploy_model(caller, &name, None, model).await?
        }
    };
    let status = if deployment.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut reply = body::json(&describe(&deployment));
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

fn describe(deployment: &Deployment) -> Value {
    let Deployment { name, version, digest, created, kind, compile } = deployment;
    let mut about = json!({
        "name": name,
        "version": version,
        "digest": digest,
        "created": created,
    });
    match kind {
        DeployedKind::Function(spec) => {
            about["kind"] = spec.kind.as_str().into();
            about["url"] = match spec.kind {
                FunctionKind::Http => format!("/f/{name}/"),
                FunctionKind::Inference(_) => format!("/v2/models/{name}/infer"),
            }
            .into();
        }
        DeployedKind::Model(spec) => {
            about["kind"] = "model".into();
            about["url"] = format!("/v2/models/{name}/infer").into();
            inspection::describe_model(&mut about, spec);
        }
    }
    if let Some(compile) = compile {
        about["compile_ms"] = u64::try_from(compile.as_millis()).unwrap_or(u64::MAX).into();
    }
    about
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    version: Option<VersionNumber>,
}

/// `POST /v1/{class}/{name}/rollback`
pub(crate) async fn roll_back(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: Name,
    body: RequestBody,
) -> Result<Reply, Failure> {
    let body = body.collect(MAX_ROLLBACK, &gateway.body_room).await?;
    let RollbackBody { version } = if body.is_empty() {
        RollbackBody::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            let detail = format!("body is not of the form {{\"version\": 3}}: {error}");
            Failure::new(Code::InvalidJson, detail)
        })?
    };
    let version = gateway.deployer.rollback(caller, class, &name, version).await?;
    Ok(body::json(&json!({"name": name, "version": version})))
}

/// `DELETE /v1/{class}/{name}`
pub(crate) async fn delete(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: Name,
) -> Result<Reply, Failure> {
    gateway.deployer.delete(caller, class, &name).await?;
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    Ok(reply)
}
