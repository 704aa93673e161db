//! The store on a real folder: behaviours, a model, and kills. Never looks inside the crate.

mod access;
mod backup;
mod blobs;
mod catalog;
mod common;
mod crash;
mod damage;
mod deliveries;
mod fires;
mod keyvalue;
mod keyvalue_crash;
mod keyvalue_model;
mod logs;
mod model;
mod opening;
mod queue;
mod restore;
mod rotation;
mod settings;
mod traffic;
mod webhooks;
