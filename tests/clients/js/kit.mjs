// fhir-kit-client against the door.
import { Client } from "fhir-kit-client";
import { finish, observation, patient, practitioner, refused, root, step, token } from "./steps.mjs";

const client = new Client({ baseUrl: `${root}/fhir`, bearerToken: token });
const run = `kit-${Date.now()}`;

await step("capability", async () => {
  const statement = await client.capabilityStatement();
  return [statement.resourceType, statement.fhirVersion, statement.rest[0].mode];
});

const made = await step("create", () => client.create({ resourceType: "Patient", body: patient(run) }));
const id = made?.id;
await step("read", () => client.read({ resourceType: "Patient", id }));
await step("update", async () => {
  const body = { ...(await client.read({ resourceType: "Patient", id })), gender: "other" };
  return client.update({ resourceType: "Patient", id, body });
});
await step("vread", () => client.vread({ resourceType: "Patient", id, version: "1" }));
await step("stale update", () =>
  refused(() =>
    client.update({ resourceType: "Patient", id, body: { ...made, gender: "male" }, options: { headers: { "If-Match": 'W/"1"' } } }),
  ),
);
await step("patch", async () => {
  const jsonPatch = [{ op: "replace", path: "/gender", value: "unknown" }];
  return client.patch({ resourceType: "Patient", id, jsonPatch });
});
await step("history", async () => (await client.resourceHistory({ resourceType: "Patient", id })).entry.map((e) => e.request.method));
await step("type history", async () => (await client.typeHistory({ resourceType: "Patient" })).type);
await step("system history", async () => (await client.systemHistory()).type);

await step("batch", async () => {
  const entry = [..."abc"].map((letter) => ({
    resource: practitioner(`${run}-b${letter}`),
    request: { method: "POST", url: "Practitioner" },
  }));
  entry.push({ request: { method: "GET", url: "Practitioner/nobody" } });
  const answer = await client.batch({ body: { resourceType: "Bundle", type: "batch", entry } });
  return [answer.type, ...answer.entry.map((e) => e.response.status.slice(0, 3))];
});
await step("transaction", async () => {
  const fullUrl = "urn:uuid:1b7f1f3c-70a5-4a3c-8c5e-7d4e6b1f0c11";
  const about = { ...observation("x", 120, "2026-03-01"), subject: { reference: fullUrl } };
  const entry = [
    { fullUrl: "urn:uuid:2c7f1f3c-70a5-4a3c-8c5e-7d4e6b1f0c12", resource: about, request: { method: "POST", url: "Observation" } },
    { fullUrl, resource: patient(`${run}-t`, "常"), request: { method: "POST", url: "Patient" } },
  ];
  const answer = await client.transaction({ body: { resourceType: "Bundle", type: "transaction", entry } });
  const where = answer.entry[0].response.location.split("/");
  const kept = await client.read({ resourceType: "Observation", id: where[where.indexOf("Observation") + 1] });
  return [answer.type, kept.subject.reference.startsWith("Patient/")];
});

await step("conditional create", async () => {
  const statuses = [];
  for (const _ of [1, 2]) {
    const body = practitioner(`${run}-c`);
    const answer = await client.create({
      resourceType: "Practitioner",
      body,
      options: { headers: { "If-None-Exist": `identifier=urn:lianxin:test|${run}-c` } },
    });
    statuses.push(Client.httpFor(answer).response.status);
  }
  return statuses;
});
await step("conditional update", async () => {
  const searchParams = { identifier: `urn:lianxin:test|${run}-cu` };
  const put = (body) => client.update({ resourceType: "Practitioner", searchParams, body });
  const first = await put(practitioner(`${run}-cu`));
  const second = await put({ ...practitioner(`${run}-cu`), active: false });
  return [first.id === second.id, second.meta.versionId, second.active];
});

await step("page to the end", async () => {
  for (let day = 1; day <= 7; day++)
    await client.create({ resourceType: "Observation", body: observation(id, 110 + day, `2026-03-0${day}`) });
  let page = await client.search({ resourceType: "Observation", searchParams: { patient: id, _sort: "-date", _count: 3 } });
  const values = [], pages = [];
  while (page) {
    pages.push(page.entry.length);
    values.push(...page.entry.map((e) => e.resource.valueQuantity.value));
    page = await client.nextPage({ bundle: page });
  }
  return { values, pages };
});
await step("post search", async () =>
  (await client.search({ resourceType: "Observation", searchParams: { patient: id }, options: { postSearch: true } })).total);
await step("compartment", async () =>
  (await client.compartmentSearch({ resourceType: "Observation", compartment: { resourceType: "Patient", id }, searchParams: { code: "8480-6" } })).total);
await step("compartment by post", async () =>
  (await client.compartmentSearch({ resourceType: "Observation", compartment: { resourceType: "Patient", id }, searchParams: { code: "8480-6" }, options: { postSearch: true } })).total);
await step("include", async () => {
  const bundle = await client.resourceSearch({
    resourceType: "Observation",
    searchParams: { patient: id, _include: "Observation:subject", _count: 1 },
  });
  return bundle.entry.map((e) => e.search.mode);
});
await step("operation", async () => {
  const answer = await client.operation({ name: "everything", resourceType: "Patient", id, method: "GET" });
  return answer.entry.length;
});
await step("resolve", async () => (await client.resolve({ reference: `Patient/${id}` })).id === id);
await step("delete", async () => {
  const gone = await client.create({ resourceType: "Practitioner", body: practitioner(`${run}-d`) });
  await client.delete({ resourceType: "Practitioner", id: gone.id });
  return (await refused(() => client.read({ resourceType: "Practitioner", id: gone.id }))).status;
});
await step("refusal", () => refused(() => client.create({ resourceType: "Patient", body: { resourceType: "Patient", gender: "maybe" } })));
finish();
