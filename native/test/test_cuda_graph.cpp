// Calls in a CUDA graph. This file needs the runtime of the library that it is linked with, and is compiled for each.
#include <cuda_runtime.h>

#include "plan.h"
#include "test.h"

// Dense with a gradient, and boxes without: nothing is done while they are captured, and each replay computes what the
// buffers hold then.
TEST_LABELLED(cuda, calls_captured_in_a_graph_compute_what_the_buffers_hold_at_each_replay, kNeedsCuda) {
  const Case c = golden("e_empty_and_crowded");
  Plan want(c, cuda_device(Way::kDevice)), p(c, cuda_device(Way::kDevice));
  CHECK_OK(want.run(Truths::kYTrue));
  const auto logits = p.logits;
  for (auto &layer : p.logits) layer.assign(layer.size(), 0.25f);
  p.call.y_true = p.y_true.data();
  p.call.boxes = &p.boxes;
  const std::unique_ptr<Plan::OnDevice> there = p.upload();
  yl_call dense = there->call, sparse = there->call;
  dense.boxes = nullptr;
  sparse.y_true = nullptr;
  sparse.grads = nullptr;
  const Pinned pinned(2 * sizeof(yl_summary));
  auto *summaries = pinned.as<yl_summary>();
  summaries[0].total = summaries[1].total = -7;
  yl_result results[] = {YL_RESULT_INIT, YL_RESULT_INIT};
  results[0].summary = &summaries[0];
  results[1].summary = &summaries[1];

  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK_OK(yl_loss_async(p.plan, &dense, stream, &results[0]));
  CHECK_OK(yl_loss_async(p.plan, &sparse, stream, &results[1]));
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(cudaGraphInstantiate(&replay, graph, 0) == cudaSuccess);
  CHECK_EQUAL(summaries[0].total, -7, "a captured call has run");
  double first = 0;
  for (int turn = 0; turn < 3; ++turn) {
    CHECK(cudaGraphLaunch(replay, stream) == cudaSuccess);
    CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
    CHECK_EQUAL(summaries[0].total, summaries[1].total);
    CHECK_EQUAL(summaries[0].objects, want.summary.objects);
    if (turn > 0) continue;
    first = summaries[0].total;
    for (size_t l = 0; l < p.layer_count(); ++l)  // the logits of the case, under the graph
      p.mirrors[3 * l].upload(logits[l].data(), p.bytes_of(l));
  }
  CHECK(first > 0, number(first));
  CHECK(first != want.summary.total, number(first));
  CHECK_EQUAL(summaries[0].total, want.summary.total);
  p.download_gradient();
  for (size_t l = 0; l < p.layer_count(); ++l) CHECK_SAME_BITS(p.gradient[l], want.gradient[l]);
  CHECK(cudaGraphExecDestroy(replay) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
}
