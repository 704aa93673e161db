//! One request from head to head: routed, carried out, counted. Whatever goes wrong becomes an
//! answer here; nothing reaches the connection as an error or a panic.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderName, HeaderValue, Method, Request, header::CONTENT_LENGTH};
use hyper::body::Incoming;
use quern_types::{Caller, QualifiedName, Role};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{
    Gateway, background, backup, batches,
    body::{Reply, ReplyBody, RequestBody, drain},
    deployments,
    errors::{Audience, Failure, Family},
    functions, grpc, health,
    held::held,
    inspection,
    invocation::{Invocation, Way},
    logs,
    metrics::Traffic,
    operations,
    route::{Route, RouteError},
    server::{Offer, Origin},
    settings, sharing, stats, tenants, tokens,
    traces::RequestSpan,
    traffic, v2, webhooks,
};

/// The header that names a request.
pub(crate) const INVOCATION: HeaderName = HeaderName::from_static("quern-invocation");

impl Gateway {
    /// Answers a request, always.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        origin: Origin,
        request: Request<Incoming>,
    ) -> Reply {
        if grpc::is_call(&request) {
            // Boxed, so that the future of every other request stays small.
            let answer: BoxFuture<'_, Reply> = Box::pin(self.answer_call(origin.address, request));
            return answer.await;
        }
        let start = Instant::now();
        let invocation = Invocation::new();
        let family = Family::of(request.uri().path());
        let is_head = request.method() == Method::HEAD;
        let route = match origin.offer {
            Offer::Everything => Route::of(request.method(), request.uri().path()),
            Offer::Grpc => Err(RouteError::GrpcOnly),
        };
        let traffic = route.as_ref().map_or(Traffic::Unknown, Route::traffic);
        let mut traced = match traffic {
            // Probes and scrapes would drown everything else.
            Traffic::Operations => RequestSpan::none(),
            _ => RequestSpan::begin(self, &request, invocation, route.as_ref().ok()),
        };
        let trace = traced.trace().clone();
        let span = tracing::debug_span!(
            "request",
            %invocation,
            trace = trace.id().map(tracing::field::display),
            method = %request.method(),
            path = request.uri().path(),
        );

        let (head, incoming) = request.into_parts();
        let stall = self.limits().body_stall;
        let body = RequestBody::new(incoming, &head, &self.leftovers, stall);
        let request = Request::from_parts(head, body);
        let mut owner = false;
        let outcome = async {
            match route {
                Ok(route) => {
                    let address = origin.address;
                    let caller = self.admit(request.headers(), route.needs(), address)?;
                    owner = self.is_owner(&caller, route.target());
                    let permit = self.charge(&caller, traffic.charge(), address)?;
                    self.api.check_query(&route, request.uri().query())?;
                    traced.is_of(&caller);
                    let way = Way { invocation, trace: &trace };
                    let reply = self.carry_out(route, &caller, way, request).await;
                    reply.map(|reply| held(reply, permit))
                }
                Err(error) => Err(error.into()),
            }
        };
        let outcome = caught(outcome).instrument(span.clone()).await;
        let audience = Audience { family, invocation, owner, trace: trace.id() };
        let mut reply = outcome.unwrap_or_else(|failure| failure.into_reply(audience));
        reply = traced.answer(reply);
        if matches!(traffic, Traffic::Call | Traffic::Infer) {
            // Of a call that was brought twice, it is the first one's.
            let named = reply.extensions().get::<Invocation>().copied().unwrap_or(invocation);
            reply.headers_mut().insert(INVOCATION, named.header());
        }
        if is_head {
            reply = without_body(reply, &self.leftovers);
        }
        let took = start.elapsed();
        self.metrics.answered(traffic, reply.status(), took);
        tracing::debug!(parent: &span, status = reply.status().as_u16(), ?took, "answered");
        reply
    }

    /// Whether a caller may see the inside of what it calls; never of what is another tenant's.
    fn is_owner(&self, caller: &Caller, target: Option<&QualifiedName>) -> bool {
        let owner = target.and_then(|name| name.owner.as_ref());
        if owner.is_some_and(|owner| *owner != caller.tenant) {
            return false;
        }
        match self.config.authenticate {
            true => caller.role >= Role::Deployer,
            false => self.config.callers_are_owners,
        }
    }

    /// Carries out a request. What is not called in great numbers is boxed, so that the future of
    /// every request stays small.
    async fn carry_out(
        &self,
        route: Route,
        caller: &Caller,
        way: Way<'_>,
        request: Request<RequestBody>,
    ) -> Result<Reply, Failure> {
        if background::is_asked(&route, request.headers()) {
            return Box::pin(background::enqueue(self, caller, way.invocation, route, request))
                .await;
        }
        match route {
            Route::Call(name) => functions::call(self, caller, way, name, request).await,
            Route::Infer(target) => v2::infer(self, caller, way, target, request).await,
            Route::ModelMetadata(target) => v2::model_metadata(self, caller, &target),
            Route::ModelReady(target) => v2::model_ready(self, caller, &target),
            Route::ServerMetadata => Ok(v2::server_metadata(self)),
            Route::ModelConfig(target) => v2::model_config(self, caller, &target),
            Route::Statistics(target) => v2::statistics(self, caller, target.as_ref()),
            Route::RepositoryIndex => Box::pin(v2::repository_index(self, caller, request)).await,
            Route::LoadModel(name) => Box::pin(v2::load_model(self, caller, name, request)).await,
            Route::UnloadModel(name) => {
                Box::pin(v2::unload_model(self, caller, name, request)).await
            }
            Route::Settings(subject) => v2::settings(self, caller, &subject),
            Route::ChangeSettings(subject) => {
                Box::pin(v2::change_settings(self, caller, subject, request)).await
            }
            Route::Regions(memory, region) => v2::region_status(self, memory, region.as_deref()),
            Route::RegisterRegion(memory, name) => {
                Box::pin(v2::register_region(self, memory, name, request)).await
            }
            Route::UnregisterRegions(memory, region) => {
                Ok(v2::unregister_regions(self, memory, region.as_deref()))
            }
            Route::Live => Ok(v2::live()),
            Route::Ready => Ok(v2::ready(!self.closing.is_cancelled())),
            Route::Healthz => Ok(operations::healthz()),
            Route::Readyz => Box::pin(health::readyz(self)).await,
            Route::Metrics => operations::metrics(self),
            Route::Description => Ok(self.api.reply(request.headers())),
            Route::List(class) => Ok(inspection::list(self, caller, class)),
            Route::Show(class, name) => inspection::show(self, caller, class, &name),
            Route::Versions(class, name) => inspection::versions(self, caller, class, &name),
            Route::Stats => Ok(stats::stats(self, caller)),
            Route::Devices => Ok(inspection::devices(self)),
            Route::Deploy(class, name) => {
                Box::pin(deployments::deploy(self, caller, way, (class, name), request)).await
            }
            Route::Rollback(class, name) => {
                Box::pin(deployments::roll_back(self, caller, class, name, request.into_body()))
                    .await
            }
            Route::Delete(class, name) => {
                Box::pin(deployments::delete(self, caller, class, name)).await
            }
            Route::DeleteVersion(class, name, version) => {
                Box::pin(deployments::delete_version(self, caller, class, name, version)).await
            }
            Route::FunctionSettings(route) => {
                Box::pin(settings::answer(self, caller, route, request)).await
            }
            Route::Sharing(route) => Box::pin(sharing::answer(self, caller, route, request)).await,
            Route::Tenant(route) => Box::pin(tenants::answer(self, caller, route, request)).await,
            Route::Traffic(class, name, route) => {
                let name = (class, name);
                Box::pin(traffic::answer(self, caller, name, route, request.into_body())).await
            }
            Route::CreateToken => Box::pin(tokens::create(self, caller, request)).await,
            Route::Tokens => Ok(tokens::list(self)),
            Route::RevokeToken(id) => Box::pin(tokens::revoke(self, caller, id)).await,
            Route::Background(route) => {
                Box::pin(background::answer(self, caller, route, request)).await
            }
            Route::Webhooks(route) => {
                Box::pin(webhooks::answer(self, caller, route, request)).await
            }
            Route::Audit => Box::pin(tokens::audit(self, request.uri().query())).await,
            Route::Backup => Box::pin(backup::make(self, caller, request)).await,
            Route::Batches(route) => Box::pin(batches::answer(self, caller, route, request)).await,
            Route::Logs(name) => {
                Box::pin(logs::logs(self, caller, name, request.uri().query())).await
            }
        }
    }
}

/// The same answer to a HEAD request: its length stays, its body goes. A body that is still being
/// made is read on for a while, as dropping it could end the work behind it.
fn without_body(reply: Reply, leftovers: &TaskTracker) -> Reply {
    let (mut head, body) = reply.into_parts();
    match body {
        ReplyBody::Full(content) => {
            let length = content.map_or(0, |content| content.len());
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        ReplyBody::Pieces(pieces) => {
            let length = pieces.iter().map(bytes::Bytes::len).sum::<usize>();
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        ReplyBody::Stream(body) => drain(body, leftovers),
    }
    Reply::from_parts(head, ReplyBody::empty())
}

/// What comes of work, whose panics are faults of the server.
pub(crate) async fn caught<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|panic| Err(Failure::internal(panic_text(&*panic))))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use http_body::{Body as _, Frame};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    #[test]
    fn an_answer_to_head_keeps_its_length() {
        let reply = without_body(Response::new(ReplyBody::full("hello")), &TaskTracker::new());
        assert_eq!(reply.headers()[CONTENT_LENGTH], "5");
        assert!(reply.body().is_end_stream());
    }

    #[tokio::test]
    async fn what_a_function_makes_after_its_head_is_read_to_the_end() {
        let (made, taken) = tokio::sync::mpsc::channel(1);
        let parts = futures::stream::unfold(taken, async |mut taken| {
            let part: Bytes = taken.recv().await?;
            Some((Ok(Frame::data(part)), taken))
        });
        let body = ReplyBody::Stream(StreamBody::new(parts).boxed_unsync());
        let leftovers = TaskTracker::new();
        let reply = without_body(Response::new(body), &leftovers);
        assert!(reply.body().is_end_stream());
        for _ in 0..10 {
            made.send("x".into()).await.expect("somebody reads");
        }
        drop(made);
        leftovers.close();
        leftovers.wait().await;
    }

    #[tokio::test]
    async fn the_text_of_a_panic_is_kept_for_the_log() {
        for (panic, text) in [
            (Box::new("a") as Box<dyn Any + Send>, "panicked: a"),
            (Box::new(String::from("b")), "panicked: b"),
            (Box::new(7), "panicked: without a message"),
        ] {
            assert_eq!(panic_text(&*panic), text);
        }
    }
}
