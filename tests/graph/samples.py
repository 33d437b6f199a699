"""Small graphs that the tests of this folder share, as onnx's text syntax."""

CONV = """
<ir_version: 8, opset_import: ["": 17]>
net (float[1,1,4,4] x) => (float[1,2,2,2] y)
<float[2,1,3,3] w = {1,2,3,4,5,6,7,8,9,9,8,7,6,5,4,3,2,1}, float[2] b = {0.5,-0.5}>
{
    [conv] c = Conv<kernel_shape = [3,3], strides = [1,1]>(x, w, b)
    [relu] y = Relu(c)
}
"""

BRANCH = """
<ir_version: 8, opset_import: ["": 17]>
net (bool flag, float[2] x) => (float[2] y)
{
    [outer] a = Relu(x)
    [choose] y = If(flag) <
        then_branch = then () => (float[2] t) { [inner] n = Neg(a) [last] t = Exp(n) },
        else_branch = other () => (float[2] e) { [only] e = Abs(a) }
    >
}
"""

CHAIN = """
<ir_version: 8, opset_import: ["": 17]>
net (float[2,3] x) => (float[2,3] y)
{
    [first] a = Relu(x)
    [second] b = Neg(a)
    [third] y = Add(b, a)
}
"""
