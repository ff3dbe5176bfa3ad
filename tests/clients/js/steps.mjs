// Shared by the scripts: run named steps one after the other and print what each found, or how it failed, as JSON.

export const root = process.env.FHIR_ROOT;
export const token = process.env.FHIR_TOKEN;

const found = {};

/** Run one step; a failure is kept under its name and the next step goes on. */
export async function step(name, work) {
  try {
    found[name] = { value: (await work()) ?? null };
  } catch (error) {
    const answer = error?.response?.data ?? error?.outcome ?? "";
    const status = error?.response?.status ?? "";
    found[name] = { error: `${error?.message ?? error} ${status} ${JSON.stringify(answer).slice(0, 800)}` };
  }
  return found[name].value;
}

/** What a step threw, as {status, outcome}; an error when it did not throw. */
export async function refused(work) {
  try {
    await work();
  } catch (error) {
    const outcome = error?.response?.data ?? error?.outcome;
    return { status: error?.response?.status ?? null, outcome };
  }
  throw new Error("was not refused");
}

/** Print everything found. */
export function finish() {
  process.stdout.write(JSON.stringify(found));
}

/** A practitioner of ours with an identifier of this run. */
export const practitioner = (value, family = "甄") => ({
  resourceType: "Practitioner",
  identifier: [{ system: "urn:lianxin:test", value }],
  name: [{ family, given: ["一"], text: `${family}一` }],
});

export const patient = (value, family = "安") => ({
  resourceType: "Patient",
  identifier: [{ system: "urn:lianxin:test", value }],
  name: [{ family, text: `${family}然` }],
  gender: "female",
  birthDate: "1980-05-06",
});

export const observation = (id, value, when) => ({
  resourceType: "Observation",
  status: "final",
  code: { coding: [{ system: "http://loinc.org", code: "8480-6" }] },
  subject: { reference: `Patient/${id}` },
  effectiveDateTime: when,
  valueQuantity: { value, unit: "mmHg", system: "http://unitsofmeasure.org", code: "mm[Hg]" },
});
