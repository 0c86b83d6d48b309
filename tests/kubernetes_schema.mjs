// Checks Kubernetes resources: `node kubernetes_schema.mjs < resources.json`, in a folder with the packages in
// test_kubernetes.py. The validators are those that the packages have made of the schemas of Kubernetes and of Flink's
// operator. They let unknown keys pass, as a schema does. So they are given objects that note which keys they look at:
// a key that is there, and that nobody looks at, is unknown.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const modules = join(process.cwd(), "node_modules");
const require = createRequire(join(modules, "-"));
const SCHEMAS = {
  "flink.apache.org/v1beta1 FlinkDeployment": async () =>
    import(join(modules, "@kubernetes-models/flink/_schemas/FlinkApacheOrgV1beta1FlinkDeployment.js")),
  "v1 Service": async () => require(join(modules, "kubernetes-models/_schemas/IoK8sApiCoreV1Service.js")),
};

function watched(value, path, unseen) {
  if (value === null || typeof value !== "object") return value;
  const keys = Array.isArray(value) ? [] : Object.keys(value);
  const children = Array.isArray(value) ? value.map((one, index) => watched(one, `${path}/${index}`, unseen)) : {};
  for (const key of keys) children[key] = watched(value[key], `${path}/${key}`, unseen);
  if (!keys.length) return children;
  const seen = new Set();
  let free = true; // nobody has looked into it: it may hold anything
  unseen.push(() => (free ? [] : keys.filter((key) => !seen.has(key)).map((key) => `${path}/${key} is unknown`)));
  return new Proxy(children, {
    get(target, key) {
      free = false;
      seen.add(key);
      return target[key];
    },
  });
}

const found = [];
for (const resource of JSON.parse(readFileSync(0, "utf8"))) {
  const schema = SCHEMAS[`${resource.apiVersion} ${resource.kind}`];
  if (!schema) {
    found.push(`no schema for ${resource.apiVersion} ${resource.kind}`);
    continue;
  }
  const { validate } = await schema();
  const unseen = [];
  if (!validate(watched(resource, "", unseen)))
    found.push(...validate.errors.map((error) => `${error.instancePath} ${error.keyword} ${JSON.stringify(error.params)}`));
  found.push(...unseen.flatMap((unknown) => unknown()));
}
console.log(found.join("\n"));
