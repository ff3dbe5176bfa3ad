// @medplum/core against the door. It names WebSocket when it is loaded, which Node has from 22 on; nothing here uses one.
import { finish, observation, patient, practitioner, refused, root, step, token } from "./steps.mjs";

globalThis.WebSocket ??= class {};
const { MedplumClient } = await import("@medplum/core");
const client = new MedplumClient({ baseUrl: `${root}/`, fhirUrlPath: "fhir", accessToken: token, cacheTime: 0, maxRetries: 0 });
const run = `medplum-${Date.now()}`;

await step("capability", async () => {
  const statement = await client.get(client.fhirUrl("metadata"));
  return [statement.resourceType, statement.fhirVersion, statement.rest[0].mode];
});
const made = await step("create", () => client.createResource(patient(run)));
const id = made?.id;
await step("read", () => client.readResource("Patient", id));
await step("read reference", async () => (await client.readReference({ reference: `Patient/${id}` })).id === id);
await step("update", async () => client.updateResource({ ...(await client.readResource("Patient", id)), gender: "other" }));
await step("patch", () =>
  client.patchResource("Patient", id, [
    { op: "test", path: "/meta/versionId", value: "2" },
    { op: "replace", path: "/gender", value: "unknown" },
  ]),
);
await step("failing patch", async () => {
  const { outcome } = await refused(() => client.patchResource("Patient", id, [{ op: "test", path: "/gender", value: "male" }]));
  return outcome?.resourceType;
});
await step("history", async () => (await client.readHistory("Patient", id)).entry.map((e) => e.request.method));
await step("vread", async () => (await client.readVersion("Patient", id, "1")).gender);
await step("batch", async () => {
  const entry = [..."abc"].map((letter) => ({
    resource: practitioner(`${run}-b${letter}`),
    request: { method: "POST", url: "Practitioner" },
  }));
  entry.push({ request: { method: "GET", url: "Practitioner/nobody" } });
  const answer = await client.executeBatch({ resourceType: "Bundle", type: "batch", entry });
  return [answer.type, ...answer.entry.map((e) => e.response.status.slice(0, 3))];
});
await step("transaction", async () => {
  const fullUrl = "urn:uuid:3b7f1f3c-70a5-4a3c-8c5e-7d4e6b1f0c11";
  const about = { ...observation("x", 120, "2026-03-01"), subject: { reference: fullUrl } };
  const entry = [
    { fullUrl: "urn:uuid:4c7f1f3c-70a5-4a3c-8c5e-7d4e6b1f0c12", resource: about, request: { method: "POST", url: "Observation" } },
    { fullUrl, resource: patient(`${run}-t`, "常"), request: { method: "POST", url: "Patient" } },
  ];
  const answer = await client.executeBatch({ resourceType: "Bundle", type: "transaction", entry });
  return [answer.type, ...answer.entry.map((e) => e.response.status.slice(0, 3))];
});
await step("conditional create", async () => {
  const query = `identifier=urn:lianxin:test|${run}-c`;
  const first = await client.createResourceIfNoneExist(practitioner(`${run}-c`), query);
  const second = await client.createResourceIfNoneExist(practitioner(`${run}-c`), query);
  return first.id === second.id;
});
await step("create if none exist by header", async () => {
  const headers = { "If-None-Exist": `identifier=urn:lianxin:test|${run}-h` };
  const ids = [];
  for (const _ of [1, 2]) ids.push((await client.createResource(practitioner(`${run}-h`), { headers })).id);
  return ids[0] === ids[1];
});
await step("upsert", async () => {
  const query = `identifier=urn:lianxin:test|${run}-u`;
  const first = await client.upsertResource(practitioner(`${run}-u`), query);
  const second = await client.upsertResource({ ...practitioner(`${run}-u`), active: false }, query);
  return [first.id === second.id, second.meta.versionId, second.active];
});
await step("page to the end", async () => {
  for (let day = 1; day <= 7; day++) await client.createResource(observation(id, 110 + day, `2026-03-0${day}`));
  const values = [], pages = [];
  for await (const page of client.searchResourcePages("Observation", { patient: id, _sort: "-date", _count: "3" })) {
    pages.push(page.length);
    values.push(...page.map((r) => r.valueQuantity.value));
  }
  return { values, pages };
});
await step("search one", async () => (await client.searchOne("Observation", { patient: id, _sort: "date" })).valueQuantity.value);
await step("search resources", async () => (await client.searchResources("Observation", `patient=${id}&_count=5`)).length);
await step("count", async () => (await client.search("Observation", { patient: id, _summary: "count" })).total);
await step("everything", async () => (await client.readPatientEverything(id)).entry.length);
await step("validate", async () => (await client.validateResource(patient(`${run}-v`))).resourceType);
await step("delete", async () => {
  const gone = await client.createResource(practitioner(`${run}-d`));
  await client.deleteResource("Practitioner", gone.id);
  const { outcome } = await refused(() => client.readResource("Practitioner", gone.id));
  return outcome?.issue?.[0]?.code;
});
await step("refusal", async () => {
  const { outcome } = await refused(() => client.createResource({ resourceType: "Patient", gender: "maybe" }));
  return outcome?.issue?.[0];
});
finish();
