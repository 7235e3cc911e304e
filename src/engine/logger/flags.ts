/** Node's options for whoever starts the log daemon: with a small young generation it stays about 10 MB above Node's own size. */
export const LOGGER_NODE_FLAGS = ['--max-semi-space-size=1', '--v8-pool-size=1']
