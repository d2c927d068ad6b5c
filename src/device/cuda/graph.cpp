#include "base/error.h"
#include "device/cuda/device.h"

namespace ingot::cuda {

Graph::Graph(DevicePtr device, CUgraph graph) : device_(std::move(device)) {
  const Driver& driver = device_->driver();
  const OnExit destroy([&] { driver.cuGraphDestroy(graph); });
  device_->make_current();
  device_->check(driver.cuGraphInstantiateWithFlags(&executable_, graph, 0), "cuGraphInstantiate");
}

Graph::~Graph() {
  if (!executable_) return;
  device_->try_make_current();
  device_->driver().cuGraphExecDestroy(executable_);
}

void Graph::launch(const Stream& stream) const {
  device_->make_current();
  device_->check(device_->driver().cuGraphLaunch(executable_, stream.get()), "cuGraphLaunch");
}

}  // namespace ingot::cuda
