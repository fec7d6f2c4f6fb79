// The queues of the BullMQ test: each with a hash tag of its own, or as BullMQ names its keys when it is told nothing.

const tagged = process.env.TAGGED === "yes";
export const QUEUES = ["reports", "images", "invoices"].map((name) => ({ name, prefix: tagged ? `{${name}}` : "bull" }));

export const CONNECTION = { host: "127.0.0.1", maxRetriesPerRequest: null };
