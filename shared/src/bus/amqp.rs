//! The fleet's transport: RabbitMQ.
