// Loads a build of the library by its path, so that one program can compare several builds in one process: the calls of
// all of them then see the same machine, arrays and clocks. Each build must have this header's ABI.
#pragma once

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <type_traits>

#include "yololoss.h"

// Prints a sentence and ends the program.
[[noreturn]] inline void die(const std::string &sentence) {
  std::fprintf(stderr, "%s\n", sentence.c_str());
  std::exit(2);
}

// The functions of one loaded library.
struct Library {
  std::string path;
  decltype(&yl_plan_create) plan_create;
  decltype(&yl_plan_destroy) plan_destroy;
  decltype(&yl_loss) loss;
  decltype(&yl_loss_async) loss_async;
  decltype(&yl_yolo_head) yolo_head;
  decltype(&yl_build_y_true) build_y_true;
  decltype(&yl_last_error) last_error;
  decltype(&yl_device_why) device_why;
  decltype(&yl_device_check) device_check;
  decltype(&yl_device_get_properties) device_get_properties;

  explicit Library(const char *file) : path(file) {
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!handle) die(dlerror());
    const auto find = [&](auto &function, const char *name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
      if (!function) die(path + " has no " + name);
    };
    find(plan_create, "yl_plan_create");
    find(plan_destroy, "yl_plan_destroy");
    find(loss, "yl_loss");
    find(loss_async, "yl_loss_async");
    find(yolo_head, "yl_yolo_head");
    find(build_y_true, "yl_build_y_true");
    find(last_error, "yl_last_error");
    find(device_why, "yl_device_why");
    find(device_check, "yl_device_check");
    find(device_get_properties, "yl_device_get_properties");
  }
};
