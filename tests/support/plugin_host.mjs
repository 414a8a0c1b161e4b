// Stands in for the gateway around the plugin: node plugin_host.mjs <plugin's index.js> <configuration as JSON>
// Reads {"id", "hook", "event", "ctx"} a line (hook "summarize": event are its parameters), answers {"id", "result"} or
// {"id", "error"}; calls run side by side, as in the gateway.
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const [file, config] = process.argv.slice(2);
const hooks = new Map();
let provider;
// Twice, as the gateway does: for itself and for its agents, each from a module of its own.
for (const mode of ["full", "discovery"]) {
  const plugin = (await import(`${pathToFileURL(file)}?${mode}`)).default;
  plugin.register({
    registrationMode: mode,
    pluginConfig: JSON.parse(config),
    on: (hook, handler) => hooks.set(hook, handler),
    registerService: () => {},
    registerCompactionProvider: (given) => (provider ??= given),
  });
}
const answer = (value) => process.stdout.write(JSON.stringify(value) + "\n");
answer({ id: "ready", result: [...hooks.keys()] });
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { id, hook, event, ctx } = JSON.parse(line);
  const call = hook === "summarize" ? provider.summarize(event) : hooks.get(hook)?.(event, ctx);
  Promise.resolve(call).then(
    (result) => answer({ id, result: result ?? null }),
    (error) => answer({ id, error: String(error) }),
  );
}
