// The queues of the BullMQ test, each with a hash tag of its own, so that they are on three shards.

export const QUEUES = ["reports", "images", "invoices"].map((name) => ({ name, prefix: `{${name}}` }));

export const CONNECTION = { host: "127.0.0.1", maxRetriesPerRequest: null };
