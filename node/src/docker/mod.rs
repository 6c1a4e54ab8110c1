//! The container engine: the one place that speaks to Docker.
//!
//! Everything outside this module speaks of [`Engine`] and its own types; that the client is
//! bollard is known only here. Three rules hold for whatever passes through:
//!
//! - every call has a time limit, so that a hung engine costs one action and never the node;
//! - what the engine or a container says is cleaned before it is shown ([`EngineError`]);
//! - only things with our labels are touched ([`labels`]), and everything that is made carries
//!   them, forced last over whatever a user, an image or a repository says.
//!
//! A container is created in exactly one function, from an allow-list ([`ContainerOrder`]): what
//! the order cannot say, such as a bind mount or `privileged`, cannot happen.

mod build;
mod client;
mod container;
mod error;
mod events;
mod image;
mod info;
pub mod labels;
mod logs;
mod network;
mod purge;

pub use build::{BuildError, BuildOrder};
pub use client::Engine;
pub use container::{
    Container, ContainerOrder, ContainerState, Health, HealthCommand, NetworkPlace, PublishedPort,
    VolumeMount,
};
pub use error::EngineError;
pub use events::{ContainerChange, ContainerEvent, EngineEvent};
pub use image::{ImageInfo, ImageSummary};
pub use info::{CgroupDriver, EngineInfo};
pub use labels::{Owner, container_name, image_tag, network_name, volume_name};
pub use logs::{ContainerLine, LogQuery};
pub use network::{Network, NetworkOrder};
pub use purge::Purged;
