"""Others' files, made with the constructors that their authors use, at a small size, and the features they give."""

import torch
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.vit import ViT
from torch import nn

INPLANES = [8, 16, 32, 64]


def settled(network, *shape):
    """With batch statistics of its own, and away from zeros at which some layers start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = 1.0
        network.train()(torch.randn(3, 1, *shape))
    return network.eval()


def narrow(kind="basic", layers=(2, 2, 2, 2), **options):
    torch.manual_seed(0)
    return ResNet(kind, list(layers), INPLANES, n_input_channels=1, feed_forward=False, **options)


def resnet50_of_brainiac():
    network = narrow("bottleneck", (3, 4, 6, 3))
    network.conv1 = nn.Conv3d(1, 8, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def vit(hidden_size=128, side=32, layers=2):
    torch.manual_seed(0)
    return ViT(
        in_channels=1,
        img_size=(side,) * 3,
        patch_size=(16,) * 3,
        hidden_size=hidden_size,
        mlp_dim=4 * hidden_size,
        num_layers=layers,
        num_heads=hidden_size // 64,
    )


def unet():
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    torch.manual_seed(0)
    return ResidualEncoderUNet(
        *(1, 3, (4, 6, 8), nn.Conv3d, 3, (1, 2, 2), (1, 2, 1), 1, (1, 1), True),
        **{"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}},
        **{"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}},
    )


class MedicalNet(nn.Module):
    """Med3D's network as its paper describes it: the last two stages dilated by 2 and 4, no biases in convolutions.

    Written from the description, with plain functions, so as to be independent of MONAI's.
    """

    def __init__(self, layers, shortcut, width=8):
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv3d(1, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        inputs = width
        for stage, (n, stride, dilation) in enumerate(zip(layers, (1, 2, 1, 1), (1, 1, 2, 4), strict=True), 1):
            outputs = width * 2 ** (stage - 1)
            blocks = []
            for i in range(n):
                blocks.append(MedicalNetBlock(inputs, outputs, stride if i == 0 else 1, dilation, shortcut))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.conv_seg = nn.Sequential(nn.ConvTranspose3d(inputs, 4, 2, stride=2), nn.BatchNorm3d(4))

    def maps(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x):
        return self.conv_seg(self.maps(x))


class MedicalNetBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, dilation, shortcut):
        super().__init__()
        self.stride, self.outputs, self.shortcut = stride, outputs, shortcut
        options = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride=stride, **options)
        self.bn1 = nn.BatchNorm3d(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, **options)
        self.bn2 = nn.BatchNorm3d(outputs)
        self.downsample = None
        if shortcut == "B" and (stride != 1 or inputs != outputs):
            convolution = nn.Conv3d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm3d(outputs))

    def forward(self, x):
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.downsample is not None:
            x = self.downsample(x)
        elif out.shape != x.shape:
            x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
            x = torch.cat([x, x.new_zeros(len(x), self.outputs - x.shape[1], *x.shape[2:])], dim=1)
        return (out + x).relu()


def keyed(state, prefix="", parallel=False):
    return {f"{'module.' if parallel else ''}{prefix}{name}": value for name, value in state.items()}
