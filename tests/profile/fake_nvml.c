/* A fake libnvidia-ml: one or more GPUs whose power follows a square wave of real time, with a counter that is its exact
 * integral, refreshed every few milliseconds as the real one is. It checks what it is given and answers as the NVML API
 * reference says; what a real GPU of that kind lacks, it lacks. Settings come from the environment:
 *
 *     FAKE_NVML_GPUS   number of GPUs, default 1
 *     FAKE_NVML_LACKS  any of: counter, field, reasons, clocks, temperature, power (answers "not supported"), all
 *     FAKE_NVML_BITS   throttle reasons; FAKE_NVML_CLOCK: SM clock in MHz
 *     FAKE_NVML_STEP_MS  how often counter and power are refreshed, default 5
 *     FAKE_NVML_GAIN   factor on the sampled power: not 1 makes samples and counter disagree
 *     FAKE_NVML_CODE   every call after nvmlInit_v2 fails with this code
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { unsigned field, scope; long long time, latency; unsigned type, result; union { unsigned u; double d; } value; } field_t;

static int users = 0;
static int gpus[8];

static int number(const char *name, int otherwise) { const char *text = getenv(name); return text ? atoi(text) : otherwise; }
static int lacks(const char *what) { const char *text = getenv("FAKE_NVML_LACKS"); return text && (strstr(text, what) || !strcmp(text, "all")); }
/* Whole milliseconds, rounded down to the last refresh: a wave of integers has no seams. */
static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long long step = number("FAKE_NVML_STEP_MS", 5), ms = t.tv_sec * 1000LL + t.tv_nsec / 1000000;
    return ms / step * step;
}
/* 100 W and 300 W, half of every 400 ms each. */
static double power_mw(long long ms) { return ms % 400 < 200 ? 100000 : 300000; }
static double energy_mj(long long ms) {
    long long part = ms % 400;
    return ms / 400 * 80000.0 + (part < 200 ? part * 100.0 : 20000 + (part - 200) * 300.0);
}
static int ready(const void *gpu) {
    if (users < 1) return 1;
    if (getenv("FAKE_NVML_CODE")) return number("FAKE_NVML_CODE", 999);
    return gpu && ((const int *)gpu < gpus || (const int *)gpu >= gpus + number("FAKE_NVML_GPUS", 1)) ? 2 : 0;
}

int nvmlInit_v2(void) { if (getenv("FAKE_NVML_NO_DRIVER")) return 9; users++; return 0; }
int nvmlShutdown(void) { if (users < 1) return 1; users--; return 0; }
const char *nvmlErrorString(int code) {
    return code == 3 ? "Not Supported" : code == 4 ? "Insufficient Permissions" : code == 9 ? "Driver Not Loaded" : code == 1 ? "Uninitialized" : "Unknown Error";
}
int nvmlDeviceGetCount_v2(unsigned *count) { int code = ready(0); if (!code) *count = number("FAKE_NVML_GPUS", 1); return code; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) {
    int code = ready(0);
    if (code) return code;
    if ((int)index >= number("FAKE_NVML_GPUS", 1)) return 2;
    *gpu = &gpus[index];
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **gpu) {
    int index;
    if (ready(0)) return ready(0);
    if (sscanf(uuid, "GPU-fake-%d", &index) != 1 || index >= number("FAKE_NVML_GPUS", 1)) return 6;
    *gpu = &gpus[index];
    return 0;
}
int nvmlDeviceGetName(void *gpu, char *text, unsigned size) { int code = ready(gpu); if (!code) snprintf(text, size, "Fake H100"); return code; }
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned size) { int code = ready(gpu); if (!code) snprintf(text, size, "GPU-fake-%d", (int)((int *)gpu - gpus)); return code; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { int code = ready(0); if (!code) snprintf(text, size, "550.00"); return code; }
int nvmlDeviceGetTotalEnergyConsumption(void *gpu, unsigned long long *mj) {
    int code = ready(gpu);
    if (code) return code;
    if (lacks("counter")) return 3;
    *mj = (unsigned long long)energy_mj(now_ms());
    return 0;
}
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *mw) {
    int code = ready(gpu);
    if (code) return code;
    if (lacks("power")) return 3;
    long long ms = now_ms();
    *mw = (unsigned)(energy_mj(ms) - energy_mj(ms - 1000)); /* mean over the last second */
    return 0;
}
int nvmlDeviceGetFieldValues(void *gpu, int count, field_t *fields) {
    int code = ready(gpu);
    if (code) return code;
    if (count != 1) return 2;
    if (lacks("field") || fields->field != 186) { fields->result = 3; return 0; }
    const char *gain = getenv("FAKE_NVML_GAIN");
    fields->result = 0;
    fields->type = 1;
    fields->value.u = (unsigned)(power_mw(now_ms()) * (gain ? atof(gain) : 1.0));
    return 0;
}
int nvmlDeviceGetClockInfo(void *gpu, int kind, unsigned *mhz) {
    int code = ready(gpu);
    if (code) return code;
    if (lacks("clocks")) return 3;
    if (kind != 1 && kind != 2) return 2;
    *mhz = kind == 1 ? number("FAKE_NVML_CLOCK", 1980) : 2619;
    return 0;
}
int nvmlDeviceGetTemperature(void *gpu, int sensor, unsigned *celsius) {
    int code = ready(gpu);
    if (code) return code;
    if (lacks("temperature")) return 3;
    if (sensor) return 2;
    *celsius = 41;
    return 0;
}
#ifdef OLD_NAME
int nvmlDeviceGetCurrentClocksThrottleReasons(void *gpu, unsigned long long *bits)
#else
int nvmlDeviceGetCurrentClocksEventReasons(void *gpu, unsigned long long *bits)
#endif
{
    int code = ready(gpu);
    if (code) return code;
    if (lacks("reasons")) return 3;
    *bits = number("FAKE_NVML_BITS", 0);
    return 0;
}
