//! In calm weather the broker keeps the contract that RabbitMQ keeps.

use super::*;
use crate::life::Life;
use async_trait::async_trait;
use shared::bus::Bus;
use shared::bus::conformance::Fixture;

struct Calm {
    broker: Arc<Broker>,
    weather: Arc<Weather>,
}

impl Calm {
    fn new() -> Self {
        let weather = Arc::new(Weather::default());
        let broker = Broker::new(
            Arc::clone(&weather),
            Dice::new(1, "broker"),
            Trace::new(false),
        );
        Self { broker, weather }
    }

    fn bus(&self, who: Who) -> Arc<dyn Bus> {
        let life = Life::new(
            who,
            Arc::clone(&self.weather),
            Dice::new(1, "life"),
            Trace::new(false),
            None,
        );
        Arc::new(ChaosBus::connect(&self.broker, &Arc::new(life)))
    }
}

#[async_trait]
impl Fixture for Calm {
    fn orchestrator(&self) -> Arc<dyn Bus> {
        self.bus(Who::Orchestrator(0))
    }

    fn node(&self, _: &NodeName) -> Arc<dyn Bus> {
        self.bus(Who::Node(0))
    }

    async fn finish(&self) {}
}

shared::conformance_tests!(Calm::new());
