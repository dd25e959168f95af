// Runs the metric beside the page, which stays usable meanwhile. It stands behind onnxruntime's script, which gives `ort`.
{
  let session;
  onmessage = async ({ data }) => {
    try {
      if (data.model) {
        Object.assign(ort.env.wasm, { wasmBinary: data.wasm, numThreads: 1, proxy: false });
        session = await ort.InferenceSession.create(data.model, { executionProviders: ["wasm"] });
        postMessage({ ready: true });
        return;
      }
      const inputs = {};
      for (const [name, { planes, height, width }] of Object.entries(data.pictures))
        inputs[name] = new ort.Tensor("float32", planes, [1, 3, height, width]);
      const { score } = await session.run(inputs);
      postMessage({ number: data.number, score: score.data[0] });
    } catch (error) {
      postMessage({ number: data.number, error: String(error.message || error) });
    }
  };
}
