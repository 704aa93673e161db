//! Variables and the graph behind them: which were computed of which, and how gradients go back.
//! Never computes anything itself, and holds no values: those that the way back needs are held by
//! its edges.

use std::{cell::Cell, fmt, rc::Rc};

use crate::gpu::{Description, Error, Tensor};

/// A tensor that remembers how it was computed. Cloning it costs nothing.
#[derive(Clone)]
pub struct Variable {
    value: Tensor,
    /// None for a constant.
    node: Option<Rc<Node>>,
}

/// Where gradients come by.
pub(super) struct Node {
    /// Larger than those of all that it was computed of.
    number: u64,
    description: Description,
    /// None of a leaf.
    edges: Vec<Edge>,
}

/// A vector-Jacobian product: from a gradient by the result to one by the input.
type Product = Box<dyn Fn(&Tensor) -> Result<Tensor, Error>>;

/// The way back from a variable to one that it was computed of. See [`Variable::edge`].
pub struct Edge {
    to: Rc<Node>,
    product: Product,
}

impl Variable {
    /// A variable by which there are gradients.
    pub fn leaf(value: Tensor) -> Result<Self, Error> {
        Self::tracked(value, Vec::new())
    }

    /// A variable by which there are none.
    pub fn constant(value: Tensor) -> Self {
        Self { value, node: None }
    }

    /// The result of an operator, with an edge for each input. Without edges it is a constant.
    ///
    /// ```no_run
    /// # use quern_sdk::{autograd::Variable, gpu::Error};
    /// /// The sine, if the library did not know it.
    /// fn sine(x: &Variable) -> Result<Variable, Error> {
    ///     let value = x.value().clone();
    ///     let edge = x.edge(move |gradient| gradient.mul(&value.cos()?));
    ///     Variable::computed(x.value().sin()?, [edge])
    /// }
    /// ```
    pub fn computed(
        value: Tensor,
        edges: impl IntoIterator<Item = Option<Edge>>,
    ) -> Result<Self, Error> {
        let edges: Vec<Edge> = edges.into_iter().flatten().collect();
        if edges.is_empty() { Ok(Self::constant(value)) } else { Self::tracked(value, edges) }
    }

    /// The way back to this variable from one that is computed of it: what a gradient by the result
    /// is by this one, shaped as this one. None if no gradient is needed.
    pub fn edge(
        &self,
        product: impl Fn(&Tensor) -> Result<Tensor, Error> + 'static,
    ) -> Option<Edge> {
        let to = self.node.clone()?;
        Some(Edge { to, product: Box::new(product) })
    }

    fn tracked(value: Tensor, edges: Vec<Edge>) -> Result<Self, Error> {
        thread_local!(static NEXT: Cell<u64> = const { Cell::new(0) });
        let number = NEXT.get();
        NEXT.set(number + 1);
        let description = value.description()?.clone();
        Ok(Self { value, node: Some(Rc::new(Node { number, description, edges })) })
    }

    /// What it is.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// Its dimensions, the outermost first; none for a scalar.
    pub fn shape(&self) -> Result<&[u64], Error> {
        self.value.shape()
    }

    /// Whether gradients go back from it: it is a leaf, or was computed of one.
    pub fn is_tracked(&self) -> bool {
        self.node.is_some()
    }

    /// The same as a constant: gradients stop here.
    pub fn detach(&self) -> Self {
        Self::constant(self.value.clone())
    }

    pub(super) fn node(&self) -> Option<&Rc<Node>> {
        self.node.as_ref()
    }
}

impl Node {
    /// Those that are computed later have larger ones.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The ways back; none of a leaf.
    pub(super) fn edges(&self) -> &[Edge] {
        &self.edges
    }
}

impl Edge {
    pub(super) fn to(&self) -> &Rc<Node> {
        &self.to
    }

    /// The gradient by where it leads, which must be shaped so.
    pub(super) fn pull(&self, gradient: &Tensor) -> Result<Tensor, Error> {
        let pulled = (self.product)(gradient)?;
        if *pulled.description()? == self.to.description {
            return Ok(pulled);
        }
        let by = &self.to.description;
        Err(Error::invalid(format!("backward: {pulled:?} is no gradient by {by}")))
    }
}

impl From<Tensor> for Variable {
    /// A constant.
    fn from(value: Tensor) -> Self {
        Self::constant(value)
    }
}

impl Drop for Node {
    /// One by one: a function's stack is small, and the chain may be long.
    fn drop(&mut self) {
        let mut waiting = std::mem::take(&mut self.edges);
        while let Some(edge) = waiting.pop() {
            if let Some(mut node) = Rc::into_inner(edge.to) {
                waiting.append(&mut node.edges);
            }
        }
    }
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match &self.node {
            None => "constant",
            Some(node) if node.edges.is_empty() => "leaf",
            Some(_) => "computed",
        };
        write!(f, "{role} {:?}", self.value)
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Edge to {}", self.to.description)
    }
}
