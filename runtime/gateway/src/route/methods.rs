//! The methods that a path takes, each with its route.

use http::Method;

use super::Route;

/// What a path takes: a route for each method. Whatever takes GET takes HEAD, too.
#[derive(Debug)]
pub(super) struct Methods {
    routes: [Option<(Method, Route)>; Self::MOST],
}

impl Methods {
    /// Most methods that a path takes.
    const MOST: usize = 3;

    pub(super) fn get(route: Route) -> Self {
        Self::only(Method::GET, route)
    }

    pub(super) fn post(route: Route) -> Self {
        Self::only(Method::POST, route)
    }

    pub(super) fn delete(route: Route) -> Self {
        Self::only(Method::DELETE, route)
    }

    pub(super) fn and_put(self, route: Route) -> Self {
        self.and(Method::PUT, route)
    }

    pub(super) fn and_post(self, route: Route) -> Self {
        self.and(Method::POST, route)
    }

    pub(super) fn and_patch(self, route: Route) -> Self {
        self.and(Method::PATCH, route)
    }

    pub(super) fn and_delete(self, route: Route) -> Self {
        self.and(Method::DELETE, route)
    }

    /// The route of a method; the error is a list of the methods that there are.
    pub(super) fn take(self, method: &Method) -> Result<Route, Box<str>> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let allow = |routes: &[Option<(Method, Route)>]| {
            let methods = routes.iter().flatten().map(|(method, _)| match *method {
                Method::GET => "GET, HEAD",
                ref method => method.as_str(),
            });
            methods.collect::<Vec<_>>().join(", ").into_boxed_str()
        };
        let mut routes = self.routes;
        let found = routes.iter_mut().find(|entry| matches!(entry, Some((of, _)) if of == wanted));
        match found.and_then(Option::take) {
            Some((_, route)) => Ok(route),
            None => Err(allow(&routes)),
        }
    }

    fn only(method: Method, route: Route) -> Self {
        Self { routes: [Some((method, route)), None, None] }
    }

    fn and(mut self, method: Method, route: Route) -> Self {
        let free = self.routes.iter_mut().find(|entry| entry.is_none());
        *free.expect("no path takes more methods than there is room for") = Some((method, route));
        self
    }
}
